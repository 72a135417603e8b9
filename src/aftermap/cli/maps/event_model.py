"""`aftermap learn`: the event's own model from a few answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from aftermap.cli.checks import check_map
from aftermap.cli.options import Flag, Json
from aftermap.cli.output import print_json, say

if TYPE_CHECKING:
    from aftermap.workflows.event_model.run import Learnt


def learn(
    folder: Annotated[Path, Parameter(name="map")],
    *,
    undo: Flag = False,
    json: Json = False,
) -> None:
    """Learn from the answers to some buildings of a map how the other ones are damaged, in seconds.

    A small model is fitted to 30 or more answers, with what the map's own model said as its start. It is checked on
    answers that it has not seen, on other ground, and takes the place of the map's classes only where it is better.
    Answers win in any case: damage is what was answered, reviewed says where, damage_model keeps what the map said. The
    layers, the page, the picture and the summary are rewritten together; the originals stay in MAP/learnt/original.

    A map that was made with --features is learnt from better than one without.

    Example: aftermap learn joplin

    Example: aftermap learn joplin --undo

    Args:
        folder: Folder of a map of damage, with the answers that aftermap review keeps there.
        undo: Bring the map back as its model left it, byte for byte; the answers stay.
        json: Print what was found as JSON.
    """
    check_map(folder)
    if undo:
        from aftermap.workflows.event_model.run import undo as bring_back

        bring_back(folder)
        if json:
            print_json({"output": folder, "undone": True})
        else:
            say(f"{folder} is as its model left it; the answers stay")
        return

    from aftermap.extras import needs

    needs("aftermap learn", "learn")

    from aftermap import api

    found = api.learn(folder)
    if json:
        print_json(found.as_dict())
        return
    say(*_told(found))


def _told(found: "Learnt") -> list[str]:
    """What came of it, line by line."""
    check = found.check
    low, high = check.gain_interval
    verdict = "better" if found.better else "no better"
    compared = "" if check.judged == check.answers else f" ({check.judged} of a random sample are compared)"
    lines = [
        f"learnt from {check.answers} answers on {check.blocks} blocks of ground, each told by what saw only others"
        f"{compared}",
        f"{verdict}: log loss {check.log_loss_before:.3f} -> {check.log_loss_after:.3f}, macro F1 "
        f"{check.macro_f1_before:.3f} -> {check.macro_f1_after:.3f} ({check.gain:+.3f}, 95 % {low:+.3f} to {high:+.3f}), "
        f"accuracy {check.accuracy_before:.3f} -> {check.accuracy_after:.3f}",
    ]
    if found.better and check.unknown:
        lines.append(
            f"too few answers to buildings that the map calls {' or '.join(check.unknown)}: the others of these stay as "
            "they are"
        )
    if check.phantoms:
        lines.append(
            f"not a building: {check.phantoms_found} of {check.phantoms} found, {check.phantoms_false} buildings taken "
            f"for none; {'used' if check.rejects else 'not used'}"
        )
    if not found.better:
        lines.append("the map keeps its classes; what was answered wins all the same")
    if not found.with_features:
        lines.append(
            "this map kept no features: one made with 'aftermap map ... --features' is learnt from better"
        )
    lines.append(
        f"{found.changed} buildings have another class than the map's model said; open {found.folder / 'map.html'}"
    )
    return lines
