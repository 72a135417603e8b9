"""The `aftermap` command: sub-commands, and how errors reach the user."""

import atexit
import gc
import os
import signal
import sys
import warnings
from typing import Any

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError
from rich.console import Console

from aftermap import __version__
from aftermap.cli import map as mapping
from aftermap.cli import score
from aftermap.cli.catalogues.collect import collect
from aftermap.cli.catalogues.find import find
from aftermap.cli.catalogues.footprints import footprints
from aftermap.cli.checks import check_path
from aftermap.cli.datasets import data
from aftermap.cli.ending import ended_by_signals
from aftermap.cli.help import let_flow
from aftermap.cli.maps import areas, compare, fuse, many, monitor, package, report, totals
from aftermap.cli.maps.event_model import learn as learn_command
from aftermap.cli.maps.review import review
from aftermap.cli.models import bench, benchmark, export, weights
from aftermap.cli.models import predict as learn
from aftermap.cli.models.pair import predict_pair
from aftermap.cli.progress import forget_held, say_held
from aftermap.cli.service.serve import app as serve_app
from aftermap.cli.service.serve import worker
from aftermap.cli.training import adapt, incremental, plan, runs, search, train, tune
from aftermap.cli.training.pretrain import pretrain
from aftermap.errors import AftermapError, AftermapWarning
from aftermap.extras import extra_of, install_command
from aftermap.redaction import hide_secrets
from aftermap.trust import trust

app = App(
    name="aftermap",
    help=(
        "Map damaged buildings from images taken before and after a disaster.\n\n"
        "Every command takes --trust: run the code that a model's card names (kind: custom). Without it such a model is "
        "refused."
    ),
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(validator=check_path),
    suppress_keyboard_interrupt=False,
)
app.command(mapping.demo, name="demo")
app.command(find, name="find")
app.command(footprints, name="footprints")
app.command(mapping.map_command, name="map")
app.command(many.map_many, name="map-many")
app.command(learn_command, name="learn")
app.command(data.app, name="data")
app.command(train.train, name="train")
app.command(plan.run, name="run")
app.command(search.search, name="search")
app.command(incremental.incremental_report, name="incremental-report")
app.command(adapt.meta_train, name="meta-train")
app.command(pretrain, name="pretrain")
app.command(adapt.adapt, name="adapt")
app.command(learn.predict, name="predict")
app.command(predict_pair, name="predict-pair")
app.command(learn.evaluate, name="evaluate")
app.command(benchmark.benchmark, name="benchmark")
app.command(tune.tune_thresholds, name="tune-thresholds")
app.command(tune.ensemble, name="ensemble")
app.command(compare.compare, name="compare")
app.command(fuse.fuse, name="fuse")
app.command(monitor.monitor, name="monitor")
app.command(score.combine, name="combine")
app.command(score.score, name="score")
app.command(totals.totals, name="totals")
app.command(areas.areas, name="areas")
app.command(package.package, name="package")
app.command(collect, name="collect")
app.command(report.report, name="report")
app.command(runs.app, name="runs")
app.command(review, name="review")
app.command(serve_app, name="serve")
app.command(worker, name="worker")
app.command(export.export, name="export")
app.command(bench.bench, name="bench")
app.command(learn.models, name="models")
app.command(weights.app, name="weights")
let_flow(app)

_OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Exits 0 when done, 1 when a check failed, 2 on a user's mistake, and with 128 and the number of the signal that ended
    it: 130 on Ctrl-C, 143 on SIGTERM, 129 on SIGHUP.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--trust" in arguments:
        trust()
        arguments = [word for word in arguments if word != "--trust"]
    console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    # imports make many objects that stay: looking for circles among them every 700 takes a tenth of a short command
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)
    # the interpreter looks through all of them once more before it ends, which takes as long as importing half of them
    atexit.register(_leave_objects)
    # else it writes a line on each tag of a GeoTIFF that it does not know
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")

    def show(message: Any, category: Any, *rest: Any) -> None:
        if issubclass(category, AftermapWarning):
            console.print(f"warning: {hide_secrets(str(message))}", markup=False, style="yellow")
        else:
            standard(message, category, *rest)

    with warnings.catch_warnings(), ended_by_signals() as ending:
        warnings.simplefilter("always", AftermapWarning)
        standard, warnings.showwarning = warnings.showwarning, show  # type: ignore[assignment]
        try:
            result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
            say_held()
            sys.stdout.flush()
            if ending.by is not signal.SIGINT:  # a command that ends well where it is interrupted
                sys.exit(ending.status)
        except UnusedCliTokensError as error:
            words = " ".join(error.unused_tokens or [])
            command = " ".join(("aftermap", *(error.command_chain or ())))
            console.print(f"aftermap: not understood: {words}; see {command} --help", markup=False)
            sys.exit(2)
        except (AftermapError, CycloptsError) as error:
            console.print(f"aftermap: {hide_secrets(' '.join(str(error).split()))}", markup=False)
            sys.exit(2)
        except ModuleNotFoundError as error:
            extra = extra_of(error.name)
            if extra is None:
                raise
            console.print(
                f"aftermap: this needs more than the core of aftermap: {install_command(extra)}", markup=False
            )
            sys.exit(2)
        except KeyboardInterrupt as interrupt:
            console.print(f"aftermap: {str(interrupt) or ending.word}", markup=False)
            sys.exit(ending.status)
        except BrokenPipeError:  # whoever read the output has enough, such as `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        finally:
            forget_held()
    sys.exit(result if isinstance(result, int) else 0)


def _leave_objects() -> None:
    """Leave all objects to the end of the process; triton, which PyTorch brings, would report them as leaked."""
    if "triton" not in sys.modules:
        gc.freeze()


if __name__ == "__main__":  # python -m aftermap.cli.app, which 'accelerate launch' starts
    main()
