"""A search over a recipe's keys: trials in a folder, resumable at any moment, by one process or several.

    OUT/search.yaml          the recipe, the space and the study
    OUT/study.db             Optuna's storage, SQLite
    OUT/trials/0007/         a run folder for each trial; only the best one keeps its model
    OUT/search.json|png      results; OUT/best.yaml is the best trial as a complete recipe

A trial belongs to the process that holds its lock; the system lets go of it when the process dies, however it dies.
"""

import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import yaml
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from aftermap.config import Config, build_config, load_yaml
from aftermap.errors import OutputError, RecipeError, TrainingError
from aftermap.files import make_folder, write_text
from aftermap.learning.experiments.tracking import file_store
from aftermap.wording import counted
from aftermap.workflows.search.space import SearchSpace, check_space, with_lists
from aftermap.workflows.training.config import TrainRecipe

if TYPE_CHECKING:
    from aftermap.workflows.search.trial import TrialOutcome
    from aftermap.workflows.training.training_kind import TrainingProgress

DIED = "its process died"
_HOPELESS = 5
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class SearchFile(Config):
    """What `search.yaml` holds.

    Attributes:
        recipe: the recipe that is searched, as plain values.
        search: space and study.
        keep_models: the models of all complete trials stay, not only the best one's.
        command: how the user asked for it.
    """

    recipe: dict[str, Any]
    search: SearchSpace
    keep_models: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True)
class SearchListener:
    """What a search tells whoever shows it: a trial that begins, its steps, a trial that ended."""

    on_trial: Callable[[int, Mapping[str, Any], bool], None] = lambda number, values, resumed: None
    on_step: Callable[[int, "TrainingProgress"], None] = lambda number, progress: None
    on_end: Callable[[FrozenTrial], None] = lambda trial: None


@dataclass
class _Claim:
    """A trial of this process.

    Attributes:
        trial: with its parameters.
        lock: held while the process works on it.
        resume: its run folder holds a saved state.
    """

    trial: Trial
    lock: FileLock
    resume: bool


class Search:
    """A search in its folder.

    Attributes:
        folder: of the search.
        settings: recipe, space and study.
        study: Optuna's.
    """

    def __init__(self, folder: Path, settings: SearchFile) -> None:
        self.folder = folder
        self.settings = settings
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.RDBStorage(
            file_store(folder / "study.db").uri,
            engine_kwargs={"connect_args": {"timeout": 60}},  # another process may be writing
        )
        wanted = settings.search.study
        with self._lock():  # two processes must not make the tables at once
            self.study = optuna.create_study(
                storage=storage,
                study_name="search",
                direction="maximize" if wanted.higher_is_better else "minimize",
                load_if_exists=True,
            )
        self.study.pruner = _pruner(settings)

    @classmethod
    def create(
        cls,
        tree: Mapping[str, Any],
        space: SearchSpace,
        folder: Path,
        *,
        keep_models: bool = False,
        command: str = "",
    ) -> "Search":
        """Begin a search; nothing is written where its settings are wrong.

        Args:
            tree: the recipe that is searched, as plain values.
            space: what is tried.
            folder: new or empty.
            keep_models: keep the models of all complete trials.
            command: how the user asked for it.

        Raises:
            RecipeError: the recipe or the space is wrong.
            OutputError: the folder holds a search already, or cannot be written.
        """
        if (folder / "search.yaml").exists():
            raise OutputError(
                f"{folder} already holds a search: pass --resume {folder} to go on with it, or another -o"
            )
        plain = dict(tree)
        if plain.pop("kind", "train") != "train":
            raise RecipeError(f"a search takes a training recipe, not one of kind {tree['kind']}")
        recipe = build_config(TrainRecipe, dict(plain))
        # addresses with passwords are written as everywhere else
        plain |= recipe.model_dump(mode="json", include={"records", "notify"} & plain.keys())
        plain = with_lists(plain, recipe, [*space.space, *space.fixed])
        check_space(plain, space)
        settings = SearchFile(recipe=plain, search=space, keep_models=keep_models, command=command)
        for name in ("trials", "locks"):
            make_folder(folder / name)
        text = yaml.safe_dump(settings.model_dump(mode="json", by_alias=True), sort_keys=False)
        write_text(folder / "search.yaml", text)
        return cls(folder, settings)

    @classmethod
    def open(cls, folder: Path, *, trials: int | None = None) -> "Search":
        """Open a search that was begun.

        Args:
            folder: of the search.
            trials: another number of them than the search began with; it is kept.

        Raises:
            TrainingError: there is none.
        """
        file = folder / "search.yaml"
        if not file.exists():
            raise TrainingError(f"{folder} holds no search to resume")
        settings = build_config(SearchFile, load_yaml(file.read_text()), source=str(file))
        if trials is not None and trials != settings.search.study.trials:
            study = settings.search.study.model_copy(update={"trials": trials})
            search = settings.search.model_copy(update={"study": study})
            settings = settings.model_copy(update={"search": search})
            text = yaml.safe_dump(settings.model_dump(mode="json", by_alias=True), sort_keys=False)
            write_text(file, text)
        return cls(folder, settings)

    @property
    def wanted(self) -> int:
        """Trials to do."""
        return self.settings.search.study.trials

    def trials(self) -> list[FrozenTrial]:
        """All trials, in order of number."""
        found: list[FrozenTrial] = self.study.get_trials(deepcopy=False)
        return found

    def ended(self) -> list[FrozenTrial]:
        """Trials that count as done: those whose process died are tried again instead."""
        return [t for t in self.trials() if t.state in _ENDED and not t.user_attrs.get("retried")]

    def best(self) -> FrozenTrial | None:
        """The best complete trial, the first of equal ones; None where there is none."""
        complete = [t for t in self.trials() if t.state == TrialState.COMPLETE and t.value is not None]
        choose = max if self.settings.search.study.higher_is_better else min
        return choose(complete, key=lambda t: t.value or 0.0, default=None)

    def trial_folder(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"

    def run(self, listener: SearchListener | None = None) -> None:
        """Do what is left of the search in this process.

        Raises:
            TrainingError: the first trials all failed.
            AftermapError: something is wrong that no trial can mend, such as data that fail their check.
            KeyboardInterrupt: interrupted; the trial goes on when the search is resumed.
        """
        listener = listener or SearchListener()
        while (claim := self._claim()) is not None:
            try:
                self._work(claim, listener)
            finally:
                claim.lock.release()
            listener.on_end(self.trials()[claim.trial.number])

    def _work(self, claim: _Claim, listener: SearchListener) -> None:
        """Train a trial and store how it ended."""
        from aftermap.workflows.search.trial import run_trial

        trial, number = claim.trial, claim.trial.number

        def on_progress(progress: "TrainingProgress") -> None:
            listener.on_step(number, progress)

        listener.on_trial(number, self.settings.search.values(trial.params), claim.resume)
        outcome = run_trial(
            trial,
            self.settings.search,
            self.settings.recipe,
            self.trial_folder(number),
            resume=claim.resume,
            command=self.settings.command,
            on_progress=on_progress,
        )
        self._tell(trial, outcome)

    def _claim(self) -> _Claim | None:
        """A trial that a dead process left, or a new one; None where all are taken."""
        with self._lock():
            for each in self.trials():
                if each.state != TrialState.RUNNING:
                    continue
                lock = FileLock(self.folder / "locks" / f"{each.number:04d}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue  # another process is at work on it
                trial = Trial(self.study, each._trial_id)
                if (self.trial_folder(each.number) / "resume").exists():
                    return _Claim(trial, lock, resume=True)
                self._give_up(trial, each)
                lock.release()
            ended = self.ended()
            self._check_hope(ended)
            running = sum(t.state == TrialState.RUNNING for t in self.trials())
            if len(ended) + running >= self.wanted:
                return None
            self.study.sampler = _sampler(self.settings, len(self.trials()))
            trial = self.study.ask(self._distributions())
            lock = FileLock(self.folder / "locks" / f"{trial.number:04d}.lock")
            lock.acquire()
            return _Claim(trial, lock, resume=False)

    def _give_up(self, trial: Trial, known: FrozenTrial) -> None:
        """Fail a trial that left nothing to go on from, and queue its parameters once more."""
        again = "retry_of" not in known.user_attrs
        trial.set_user_attr("reason", DIED)
        trial.set_user_attr("retried", again)
        self.study.tell(trial, state=TrialState.FAIL)
        if again:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self.study.enqueue_trial(known.params, user_attrs={"retry_of": known.number})

    def _tell(self, trial: Trial, outcome: "TrialOutcome") -> None:
        """Store how a trial ended, and keep the weights of the best one only."""
        from aftermap.workflows.search.trial import record_trial

        minutes = float(trial.user_attrs.get("minutes", 0.0)) + outcome.minutes
        for name, value in {
            "minutes": round(minutes, 3),
            "step": outcome.step,
            "reason": outcome.reason,
        }.items():
            trial.set_user_attr(name, value)
        record_trial(self.trial_folder(trial.number), self.folder.name, trial.number, outcome)
        with self._lock():
            value = outcome.value if outcome.state == TrialState.COMPLETE else None
            self.study.tell(trial, value, state=outcome.state)
            best = self.best()
            kept = {best.number} if best is not None else set()
            for each in self.trials():
                stays = self.settings.keep_models and each.state == TrialState.COMPLETE
                if each.state in _ENDED and each.number not in kept and not stays:
                    shutil.rmtree(self.trial_folder(each.number) / "model", ignore_errors=True)

    def _check_hope(self, ended: list[FrozenTrial]) -> None:
        failed = [t for t in ended if t.state == TrialState.FAIL]
        if len(failed) == len(ended) >= _HOPELESS:
            raise TrainingError(
                f"the first {counted(len(failed), 'trial')} all failed, the last one because: "
                f"{failed[-1].user_attrs.get('reason')}: change the space"
            )

    def _distributions(self) -> dict[str, BaseDistribution]:
        return self.settings.search.distributions()

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "study.lock")


def _sampler(settings: SearchFile, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial, seeded by its number: a resumed search draws what it would have drawn without a pause."""
    study = settings.search.study
    seed = (study.seed * 1_000_003 + number * 7_919 + 17) % 2**31
    if study.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=study.startup)


def _pruner(settings: SearchFile) -> optuna.pruners.BasePruner:
    study = settings.search.study
    if study.pruner == "none":
        return optuna.pruners.NopPruner()
    if study.pruner == "median":
        return optuna.pruners.MedianPruner(study.pruner_startup, study.pruner_warmup)
    recipe = build_config(TrainRecipe, dict(settings.recipe))
    counts_steps = recipe.epochs is None and not {"steps", "epochs"} & settings.search.space.keys()
    return optuna.pruners.HyperbandPruner(
        min_resource=recipe.evaluate_every if counts_steps else 1,
        max_resource=recipe.steps if counts_steps else "auto",
    )
