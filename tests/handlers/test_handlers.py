from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import RootMeanSquaredError, ValidationHandler, from_engine
from monai.metrics import RMSEMetric
from monai.transforms import RandGaussianNoise

from ctclip.errors import AlreadyDoneError, ConfigError, DataError
from ctclip.handlers import (
    EpochSeedHandler,
    GradientClippingHandler,
    MixUpBatch,
    PatientMean,
    ResumableCheckpointHandler,
    SettingsSaver,
)
from ctclip.handlers.resumable_checkpoint import refuse_to_overwrite


def _state(**values: object) -> SimpleNamespace:
    return SimpleNamespace(state=SimpleNamespace(**values))


def test_gradients_are_clipped_together() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    GradientClippingHandler(parameters, 0.5)(_state(iteration=1, epoch_length=10))
    torch.testing.assert_close(parameters[0].grad, torch.tensor([0.3, 0.0]))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.4]))
    for max_norm in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="max_norm must be positive"):
            GradientClippingHandler(parameters, max_norm)
    with pytest.raises(ValueError, match="accumulation_steps must be at least 1, found 0"):
        GradientClippingHandler(parameters, 1.0, accumulation_steps=0)
    with pytest.raises(ValueError, match="found no parameters"):
        GradientClippingHandler(iter([]), 1.0)


@pytest.mark.parametrize("max_norm", [0.5, float("inf")])
@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_gradients_are_clipped_in_their_own_unit_when_the_trainer_scales_them(
    max_norm: float, accumulation_steps: int
) -> None:
    """The gradient of the mean of w is the mean of the image, 2 here; averaged over accumulated steps it stays 2."""
    network = torch.nn.Linear(1, 1, bias=False)
    before = network.weight.item()
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": torch.full((1, 1), 2.0), "label": torch.zeros(1, 1)}] * accumulation_steps,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=lambda pred, label: pred.mean(),
        accumulation_steps=accumulation_steps,
    )
    trainer.amp = True
    # The trainer makes it for CUDA.
    trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine, "scaler", torch.amp.GradScaler("cpu")))
    GradientClippingHandler(network.parameters(), max_norm, accumulation_steps).attach(trainer)
    trainer.run()
    assert before - network.weight.item() == pytest.approx(min(2.0, max_norm), rel=1e-4)


def test_a_trainer_steps_along_the_clipped_gradient() -> None:
    network = torch.nn.Conv2d(1, 1, 1, bias=False)
    data = [{"image": torch.ones(1, 1, 4, 4), "label": torch.zeros(1, 1, 4, 4)}]
    optimizer = torch.optim.SGD(network.parameters(), lr=1)

    def loss(pred: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return 2 * pred.mean()

    trainer = SupervisedTrainer(torch.device("cpu"), 1, data, network, optimizer, loss)
    GradientClippingHandler(network.parameters(), 0.5).attach(trainer)
    before = network.weight.item()
    trainer.run()
    assert before - network.weight.item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("iteration", "clipped"), [(1, False), (2, False), (3, True), (4, False), (5, True), (8, True)]
)
def test_accumulated_gradients_are_clipped_once(iteration: int, clipped: bool) -> None:
    """Epochs of 5 iterations, 3 of which are accumulated: the optimiser steps after 3 and 5, and after 8 and 10."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([2.0])
    handler = GradientClippingHandler([parameter], 1.0, accumulation_steps=3)
    handler(_state(iteration=iteration, epoch_length=5))
    assert parameter.grad.item() == pytest.approx(1.0 if clipped else 2.0)


def test_random_numbers_depend_on_seed_and_epoch_alone() -> None:
    dataset = SimpleNamespace(transform=RandGaussianNoise(prob=1.0))
    handler = EpochSeedHandler(7, dataset)

    def draw(epoch: int) -> tuple[float, float, float]:
        handler(_state(epoch=epoch))
        noise = float(dataset.transform(np.zeros((1, 4, 4)))[0, 0, 0])
        return torch.rand(()).item(), float(np.random.rand()), noise

    first, second, again = draw(1), draw(2), draw(1)
    assert first == again
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_every_process_draws_its_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = EpochSeedHandler(7, SimpleNamespace())
    drawn = set()
    for rank in (0, 1, 0):
        monkeypatch.setattr("ctclip.handlers.epoch_seed.idist.get_rank", lambda rank=rank: rank)
        handler(_state(epoch=1))
        drawn.add(torch.rand(()).item())
    assert len(drawn) == 2


def test_an_epoch_of_a_resumed_run_draws_what_it_draws_in_one_run() -> None:
    def draws(**resumed: int) -> list[float]:
        found: list[float] = []
        engine = Engine(lambda *_: found.append(torch.rand(()).item()))
        EpochSeedHandler(7, SimpleNamespace()).attach(engine)
        if resumed:
            engine.load_state_dict(resumed)
        engine.run([0] * 3, max_epochs=2)
        return found

    whole = draws()
    torch.rand(5)
    assert len(whole) == 6
    assert draws(epoch=1, max_epochs=2, epoch_length=3) == whole[3:]


@pytest.mark.parametrize(
    ("settings", "name"), [({"prob": 2.0}, "prob"), ({"prob": -1}, "prob"), ({"alpha": 0}, "alpha")]
)
def test_mixup_refuses_what_is_no_probability_or_weight(settings: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .*, found {settings[name]}$"):
        MixUpBatch(**settings)


def test_mixup_draws_a_weight_for_every_pair_from_its_distribution() -> None:
    """Of a batch of 0 and 1 that are blended with each other, 1 - w and w of independent weights are left."""
    torch.manual_seed(0)
    alpha = 0.6
    image = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    mixup, batch = MixUpBatch(alpha=alpha, prob=1.0), {"image": image, "label": image}
    draws = torch.stack([mixup(batch, torch.device("cpu"), False)[0].flatten() for _ in range(1000)])
    blended = draws[draws[:, 0] > 0]
    assert len(blended) == pytest.approx(500, rel=0.1)
    first, second = 1 - blended[:, 0], blended[:, 1]
    for weight in (first, second):
        assert weight.mean().item() == pytest.approx(0.5, abs=0.04)
        assert weight.std().item() == pytest.approx((1 / (4 * (2 * alpha + 1))) ** 0.5, rel=0.06)
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].item() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("spatial", [(2, 2), (2, 2, 2)])
def test_mixup_blends_image_and_label_with_the_same_weights(spatial: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    image = torch.arange(6.0).reshape(6, 1, *[1] * len(spatial)).expand(6, 1, *spatial)
    mixed, label = MixUpBatch(alpha=1.2, prob=1.0)({"image": image, "label": 10 * image}, torch.device("cpu"), False)
    torch.testing.assert_close(label, 10 * mixed)
    assert mixed.shape == image.shape
    assert not torch.equal(mixed, image)
    assert mixed.min() >= 0
    assert mixed.max() <= 5
    same, _ = MixUpBatch(prob=0.0)({"image": image, "label": image}, torch.device("cpu"), False)
    assert torch.equal(same, image)


class TestResumableCheckpoints:
    """``last.pt`` holds everything, ``model.pt`` the best."""

    @staticmethod
    def _run(folder: Path) -> tuple[ResumableCheckpointHandler, Engine, Engine, torch.nn.Module]:
        network = torch.nn.Linear(2, 1)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        trainer, evaluator = Engine(lambda *_: None), Engine(lambda *_: None)
        trainer.state.max_epochs = 5
        handler = ResumableCheckpointHandler(str(folder), {"model": network}, {"optimizer": optimizer}, evaluator)
        return handler, trainer, evaluator, network

    def _epoch(self, parts: tuple, epoch: int, best: float, best_epoch: int, weight: float) -> None:
        handler, trainer, evaluator, network = parts
        trainer.state.epoch, trainer.state.iteration = epoch, 10 * epoch
        evaluator.state.best_metric, evaluator.state.best_metric_epoch = best, best_epoch
        torch.nn.init.constant_(network.weight, weight)
        handler(trainer)

    def test_a_worse_epoch_leaves_the_best_model(self, tmp_path: Path) -> None:
        parts = self._run(tmp_path)
        self._epoch(parts, 1, 20.0, 1, weight=1.0)
        self._epoch(parts, 2, 20.0, 1, weight=2.0)
        best, last = (torch.load(tmp_path / name, weights_only=True) for name in ("model.pt", "last.pt"))
        assert best["model"]["weight"][0, 0] == 1
        assert last["model"]["weight"][0, 0] == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "model.pt"]

    def test_a_resumed_run_remembers_the_best(self, tmp_path: Path) -> None:
        self._epoch(self._run(tmp_path), 2, 20.0, 1, weight=2.0)
        parts = self._run(tmp_path)
        handler, trainer, evaluator, network = parts
        handler.resume(trainer)
        assert (trainer.state.epoch, trainer.state.iteration) == (2, 20)
        assert (evaluator.state.best_metric, evaluator.state.best_metric_epoch) == (20.0, 1)
        assert network.weight[0, 0] == 2

    def test_what_cannot_be_resumed(self, tmp_path: Path) -> None:
        handler, trainer, *_ = parts = self._run(tmp_path)
        with pytest.raises(DataError, match="nothing to resume"):
            handler.resume(trainer)
        self._epoch(parts, 1, 20.0, 1, weight=1.0)
        trainer.state.max_epochs = 9
        with pytest.raises(DataError, match="planned with epochs 5, found 9"):
            handler.resume(trainer)
        trainer.state.max_epochs = 5
        other = ResumableCheckpointHandler(str(tmp_path), {"model": torch.nn.Linear(3, 1)}, {}, trainer)
        with pytest.raises(DataError, match="another network"):
            other.resume(trainer)
        whole = (tmp_path / "last.pt").read_bytes()
        # The second takes something from an empty stack, which is an IndexError.
        for damaged in (b"half a file", whole.replace(b"\x80\x02}", b"\x80\x02R", 1)):
            (tmp_path / "last.pt").write_bytes(damaged)
            with pytest.raises(DataError, match="damaged"):
                handler.resume(trainer)
        for content in ({"model": {}, "ctclip": {}}, [1, 2]):
            torch.save(content, tmp_path / "last.pt")
            with pytest.raises(DataError, match="last.pt is no training state"):
                handler.resume(trainer)

    def test_a_finished_run_is_left_alone(self, tmp_path: Path) -> None:
        self._epoch(self._run(tmp_path), 5, 20.0, 4, weight=1.0)
        before = (tmp_path / "last.pt").read_bytes()
        handler, trainer, *_ = self._run(tmp_path)
        with pytest.raises(AlreadyDoneError, match="already finished, after epoch 5 of at most 5"):
            handler.resume(trainer)
        assert (tmp_path / "last.pt").read_bytes() == before

    def test_early_stopping_finishes_a_run(self, tmp_path: Path) -> None:
        parts = self._run(tmp_path)
        parts[1].terminate()
        self._epoch(parts, 2, 20.0, 1, weight=1.0)
        handler, trainer, *_ = self._run(tmp_path)
        with pytest.raises(AlreadyDoneError, match="after epoch 2 of at most 5"):
            handler.resume(trainer)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"epoch_length": 7}, "planned with batches_per_epoch 10, found 7"),
            ({"rate": 0.2}, r"planned with learning_rate 0\.1, found 0\.2"),
            ({"scheduler": "CosineAnnealingLR"}, "planned with lr_scheduler OneCycleLR, found CosineAnnealingLR"),
        ],
    )
    def test_a_run_goes_on_with_its_own_plan(self, tmp_path: Path, change: dict, message: str) -> None:
        def run(*, epoch_length: int = 10, rate: float = 0.1, scheduler: str = "OneCycleLR") -> tuple:
            network = torch.nn.Linear(2, 1)
            optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
            schedule = (
                torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=51)
                if scheduler == "OneCycleLR"
                else torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
            )
            trainer, evaluator = Engine(lambda *_: None), Engine(lambda *_: None)
            trainer.state.max_epochs, trainer.state.epoch_length = 5, epoch_length
            training = {"optimizer": optimizer, "lr_scheduler": schedule}
            handler = ResumableCheckpointHandler(str(tmp_path), {"model": network}, training, evaluator)
            return handler, trainer, evaluator, network

        self._epoch(run(), 2, 20.0, 1, weight=1.0)
        same, trainer, *_ = run()
        same.resume(trainer)
        assert trainer.state.epoch == 2
        changed, trainer, *_ = run(**change)
        with pytest.raises(DataError, match=message):
            changed.resume(trainer)

    def test_a_rate_that_has_fallen_is_no_other_plan(self, tmp_path: Path) -> None:
        def run() -> tuple[ResumableCheckpointHandler, torch.optim.Optimizer, object, Engine]:
            network = torch.nn.Linear(2, 1)
            optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
            trainer, evaluator = Engine(lambda *_: None), Engine(lambda *_: None)
            trainer.state.max_epochs, trainer.state.epoch, trainer.state.iteration = 5, 2, 20
            evaluator.state.best_metric, evaluator.state.best_metric_epoch = 20.0, 1
            training = {"optimizer": optimizer, "lr_scheduler": schedule}
            handler = ResumableCheckpointHandler(str(tmp_path), {"model": network}, training, evaluator)
            return handler, optimizer, schedule, trainer

        handler, optimizer, schedule, trainer = run()
        for _ in range(20):
            optimizer.step()
            schedule.step()
        handler(trainer)
        fallen = optimizer.param_groups[0]["lr"]
        assert fallen < 0.09
        again, optimizer, _, trainer = run()
        again.resume(trainer)
        assert optimizer.param_groups[0]["lr"] == fallen

    def test_the_first_process_alone_writes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ctclip.handlers.resumable_checkpoint.idist.get_rank", lambda: 1)
        self._epoch(self._run(tmp_path / "out"), 1, 20.0, 1, weight=1.0)
        assert not list(tmp_path.iterdir())

    def test_a_new_run_does_not_overwrite_an_old_one(self, tmp_path: Path) -> None:
        parts = self._run(tmp_path)
        refuse_to_overwrite(tmp_path)
        self._epoch(parts, 1, 20.0, 1, weight=1.0)
        with pytest.raises(DataError, match="--resume True"):
            refuse_to_overwrite(tmp_path)


class TestDivergence:
    """MONAI's metrics leave NaN out: the RMSE of a network that gives nothing else is 0, the best there is."""

    @staticmethod
    def _trainer(folder: Path, network: torch.nn.Module) -> SupervisedTrainer:
        data = [{"image": torch.ones(1, 1, 4, 4), "label": torch.zeros(1, 1, 4, 4)}] * 2
        device = torch.device("cpu")
        evaluator = SupervisedEvaluator(
            device,
            data,
            network,
            key_val_metric={"rmse": RootMeanSquaredError(output_transform=from_engine(["pred", "label"]))},
            metric_cmp_fn=lambda current, best: current < best,
        )
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        validation = [ValidationHandler(1, evaluator)]
        loss = torch.nn.MSELoss()
        trainer = SupervisedTrainer(device, 4, data, network, optimizer, loss, train_handlers=validation)
        ResumableCheckpointHandler(str(folder), {"model": network}, {"optimizer": optimizer}, evaluator).attach(trainer)
        return trainer

    @staticmethod
    def _poison(network: torch.nn.Module) -> None:
        torch.nn.init.constant_(network.weight, torch.nan)

    @pytest.mark.parametrize(
        ("event", "message"),
        [
            (Events.ITERATION_STARTED(once=5), "the training loss is nan, expected a finite number"),
            (Events.ITERATION_COMPLETED(once=6), "the network's results in validation are not finite"),
        ],
    )
    def test_a_network_that_gives_nan_replaces_nothing(self, tmp_path: Path, event: Events, message: str) -> None:
        network = torch.nn.Conv2d(1, 1, 1)
        trainer = self._trainer(tmp_path, network)
        trainer.add_event_handler(event, lambda: self._poison(network))
        with pytest.raises(DataError, match=f"^{message}: training has diverged in epoch 3; [^\n]*--learning_rate"):
            trainer.run()
        last, best = (torch.load(tmp_path / name, weights_only=True) for name in ("last.pt", "model.pt"))
        assert last["epoch"] == last["best_metric_epoch"] == 2
        assert best["model"]["weight"].isfinite().all()

    def test_one_batch_of_validation_that_is_not_finite_is_enough(self, tmp_path: Path) -> None:
        network = torch.nn.Conv2d(1, 1, 1)
        validated: list[int] = []

        def first_is_nan(module: torch.nn.Module, _: object, output: torch.Tensor) -> torch.Tensor | None:
            if module.training:
                return None
            validated.append(len(output))
            return output * torch.nan if len(validated) == 1 else None

        network.register_forward_hook(first_is_nan)
        with pytest.raises(DataError, match="results in validation are not finite: training has diverged in epoch 1"):
            self._trainer(tmp_path, network).run()
        assert len(validated) == 2
        assert not list(tmp_path.iterdir())


def test_metrics_count_patients_and_not_slices_or_scans() -> None:
    """Two scans of one patient, with 2 slices 10 HU off and 4 slices 40 HU off, and one of another, 20 slices 2 HU off.

    An evaluation may be repeated with the same metric.
    """
    label = torch.linspace(0, 100, 64).reshape(1, 8, 8, 1)

    def volume(slices: int, off_hu: float) -> dict[str, torch.Tensor]:
        full = label.expand(-1, -1, -1, slices)
        return {"label": full, "pred": full + off_hu, "image": full + 2 * off_hu}

    def step(engine: Engine, batch: tuple[str, dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
        engine.state.batch = [{"patient": batch[0]}]
        return [batch[1]]

    engine = Engine(step)
    for key in ("pred", "image"):
        PatientMean(RMSEMetric(), key, (-160, 240)).attach(engine, key)
    batches = [("one", volume(2, 10)), ("two", volume(20, 2)), ("one", volume(4, 40))]
    for _ in range(2):
        engine.run(batches)
        assert engine.state.metrics["pred"] == pytest.approx(((2 * 10 + 4 * 40) / 6 + 2) / 2)
        assert engine.state.metrics["image"] == pytest.approx(((2 * 20 + 4 * 80) / 6 + 4) / 2)


def test_the_mean_over_patients_refuses_what_is_no_window() -> None:
    with pytest.raises(ConfigError, match="an HU window needs two finite ends"):
        PatientMean(RMSEMetric(), "pred", (240, -160))


def test_settings_are_saved_beside_the_figures(tmp_path: Path) -> None:
    engine = Engine(lambda *_: None)
    SettingsSaver(str(tmp_path / "out"), {"window_hu": [-160, 240]}).attach(engine)
    engine.run([0])
    saved = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert saved.keys() == {"window_hu", "ctclip"}
    assert saved["window_hu"] == [-160, 240]
