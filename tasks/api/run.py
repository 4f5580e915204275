"""A run as an object: figures, history, model, predictions."""

from __future__ import annotations

import dataclasses
import functools
import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.data import in_memory
from tasks.deploy import evaluate as deploy_evaluate
from tasks.deploy import predict as deploy_predict
from tasks.engine import recipes, resume, trainer
from tasks.engine.task import Task
from tasks.report import run_files
from tasks.runs import tracking
from zoo import model_files
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras

FRAME_STYLE = "width: 100%; height: 36rem; border: 1px solid #7d8590"


class Run:
    """A run folder: the result of `tasks.train` and `tasks.finetune`, or of the commands.

    In a notebook it shows its figures and its report.

    Args:
        out: The folder.

    Raises:
        UsageError: The folder is not that of a run, or its recipe or report is damaged.
    """

    def __init__(self, out: str | os.PathLike[str]) -> None:
        if not isinstance(out, str | os.PathLike):
            raise UsageError(f"a run is opened by the path of its folder, not by {out!r:.80}")
        self.out = Path(out)
        if not os.path.isfile(self.out / recipes.RECIPE):
            raise UsageError(
                f"{self.out} is not a run folder: it has no {recipes.RECIPE}; "
                "tasks.train, tasks.finetune, zoo train and zoo finetune create run folders"
            )
        self.task: Task = recipes.task_from_recipe(recipes.read_recipe(self.out / recipes.RECIPE))

    @classmethod
    def open(cls, out: str | os.PathLike[str]) -> Run:
        """Returns the run in a folder."""
        return cls(out)

    @property
    def finished(self) -> bool:
        """Whether the run is finished; an interrupted one can be resumed."""
        return (self.out / resume.REPORT).exists()

    @property
    def figures(self) -> dict[str, float]:
        """The figures of the report by name, such as `accuracy`; empty before it is finished."""
        report = resume.read_report(self.out)
        return dict(report["figures"]) if report else {}

    @property
    def history(self) -> dict[str, list[float]]:
        """The values per epoch by column, such as `val_accuracy`; NaN where there is none."""
        rows = run_files.read_history(self.out)
        if not rows:
            return {}
        return {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}

    @functools.cached_property
    def model(self) -> keras.Model:
        """The trained model with its best weights; it takes images with values in [0, 255].

        Raises:
            UsageError: The run is not finished.
        """
        return model_files.load(resume.model_path(self.out))[0]

    @property
    def report(self) -> Path:
        """The path of the report, an HTML page."""
        return self.out / trainer.PAGE

    def predict(
        self, images: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **options: Any
    ) -> list[dict[str, Any]]:
        """Predicts on image files, as `zoo predict` does.

        Args:
            images: Paths of files, folders or patterns; or one of them.
            **options: As for `tasks.deploy.predict.predict_files`, such as `top=3`.

        Returns:
            One dict per image with `path` and the prediction, such as `classes`, a list of
            `{"name", "probability"}`; or `error`.

        Raises:
            UsageError: An image does not exist, or the run is not finished.
        """
        single = isinstance(images, str | os.PathLike) or not isinstance(images, Iterable)
        paths = [images] if single else list(images)
        if wrong := [each for each in paths if not isinstance(each, str | os.PathLike)]:
            text = " ".join(f"{wrong[0]!r:.80}".split())
            raise UsageError(f"predict takes paths of images, not {text}; run.model takes arrays")
        return deploy_predict.predict(self.out, paths, **options)

    def evaluate(
        self,
        data: str | os.PathLike[str] | Iterable[Any] | None = None,
        *,
        split: str = "",
        class_names: Sequence[str] | None = None,
        **flags: Any,
    ) -> dict[str, float]:
        """Evaluates the model on a data set, as `zoo evaluate` does.

        Args:
            data: A data set as for `tasks.train`; by default that of the run.
            split: The slice, such as `test[:100]`; by default all of another data set, or the
                test split of the run.
            class_names: Names of the classes of data in memory; by default those of the run.
            **flags: Flags of the task that concern the evaluation, such as `tta="flip"`.

        Returns:
            The figures by name.

        Raises:
            UsageError: The run is not finished, or the data have other classes.
        """
        if data is not None and not isinstance(data, str | os.PathLike):
            path = resume.model_path(self.out)
            names = model_files.read_class_names(path) if class_names is None else class_names
            data = in_memory.register({"test": data}, names)
        dataset = "" if data is None else os.fspath(data)
        return deploy_evaluate.evaluate(self.out, dataset=dataset, split=split, **flags)["figures"]

    def resume(
        self, epochs: int | None = None, *, out: str | os.PathLike[str] | None = None
    ) -> Run:
        """Resumes an interrupted run, or trains a finished one for further epochs.

        An interrupted run ends as if it had not been interrupted, also in the trackers that it
        was logged to. The weights of a finished run initialize a new run in another folder, with
        a new learning rate schedule and a new optimizer state.

        Args:
            epochs: The number of further epochs of a finished run.
            out: The folder of the further run; by default `OUT-then-EPOCHS-epochs`.

        Returns:
            The finished run.

        Raises:
            UsageError: `epochs` is missing for a finished run, or passed for another; or the
                task cannot begin with a model.
        """
        if not self.finished:
            if epochs not in (None, self.task.epochs):
                raise UsageError(
                    f"{self.out} is not finished; it resumes to its {self.task.epochs} epochs "
                    "without epochs="
                )
            with tracking.resumed(self.task, self.out):
                trainer.train(self.task, self.out)
            return Run(self.out)
        if epochs is None:
            raise UsageError(f"{self.out} is finished; pass the number of further epochs")
        names = {field.name for field in dataclasses.fields(self.task)}
        if "weights" not in names or "plan" not in names:
            raise UsageError(f"{self.task.name} cannot begin with the model of another run")
        weights = str(resume.model_path(self.out))
        task = dataclasses.replace(self.task, epochs=epochs, weights=weights, plan="full")
        folder = Path(out or f"{self.out}-then-{epochs}-epochs")
        trainer.train(task, folder)
        return Run(folder)

    def _rows(self):
        """Returns the name of each figure and its value as text, with its interval, if any."""
        figures = self.figures
        ends = {name: [figures.get(f"{name}_{end}") for end in ("low", "high")] for name in figures}
        intervals = {name: pair for name, pair in ends.items() if None not in pair}
        bounds = {f"{name}_{end}" for name in intervals for end in ("low", "high")}
        shown = {n: f" ({low:.4f} to {high:.4f})" for n, (low, high) in intervals.items()}
        return [(n, f"{v:.4f}{shown.get(n, '')}") for n, v in figures.items() if n not in bounds]

    def __repr__(self) -> str:
        state = "" if self.finished else ", not finished"
        lines = [f"Run({str(self.out)!r}): {self.task.name}{state}"]
        return "\n".join([*lines, *(f"  {name:<18} {value}" for name, value in self._rows())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align: left'>{html.escape(name)}</th><td>{value}</td></tr>"
            for name, value in self._rows()
        )
        title = html.escape(f"{self.task.name}: {self.out}")
        page = self.report.read_text(encoding="utf-8") if self.finished else ""
        frame = f'<iframe style="{FRAME_STYLE}" srcdoc="{html.escape(page)}"></iframe>'
        return (
            f"<p><b>{title}</b></p><table>{rows}</table>{frame if page else '<p>not finished</p>'}"
        )
