"""Judging CT denoisers: methods, measures, statistics over patients, a physics phantom."""
