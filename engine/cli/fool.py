"""Commands that measure how easily a network is fooled."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import Any

import click
import numpy as np

from engine import record as records
from engine.cli import run
from engine.cli.printing import in_columns
from engine.net import Net
from engine.nets import available


@click.command()
@click.option("--net", required=True, metavar="NET", help="A network: a name, or a file.")
@click.option("--output", metavar="OUTPUT", help="The network's output to ask.  [default: the first]")
@click.option("--beside", default="", metavar="NETS", help="Networks to compare it with, commas between.")
@click.option("--data", "given", required=True, metavar="DATA", help="Pictures, as `index` takes them.")
@click.option("--pictures", type=click.IntRange(1), default=100, show_default=True, help="How many, drawn by lot.")
@click.option("--attacks", default="PGD,FGSM,noise", show_default=True, help="Which of these, commas between.")
@click.option("--norm", type=run.Choice(("L∞", "L2")), default="L∞", show_default=True, help="Of the change; or Linf.")
@click.option(
    "--epsilons",
    metavar="NUMBERS",
    help="Sizes of the change, commas between: of 255 in L∞, lengths in pixel values in L2.  "
    "[default: 0,1,2,4,8,16; in L2 0,0.25,0.5,1,2]",
)
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Of PGD.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn by lot.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def robustness(
    net: str,
    output: str | None,
    beside: str,
    given: str,
    pictures: int,
    attacks: str,
    norm: str,
    epsilons: str | None,
    steps: int,
    seed: int,
    out: Path,
) -> None:
    """Measure how many pictures a network has right when they are attacked, against the size of the change allowed.

    Writes curve.csv (a row per network, attack and epsilon, with the 95 % interval), numbers.npz and result.json. A run
    that is stopped early leaves the curves that there are by then.
    """
    from engine.data import sets
    from engine.fool import robustness as robust

    networks = [Net(available.find(net), output=output)]
    networks += [Net(available.find(name.strip())) for name in beside.split(",") if name.strip()]
    usual = robust.EPSILONS if norm == "L∞" else robust.LENGTHS
    unit = 255 if norm == "L∞" else 1
    try:
        sizes = usual if epsilons is None else [float(each) / unit for each in epsilons.split(",")]
    except ValueError as error:
        raise click.UsageError(f"--epsilons are numbers with commas between, not {epsilons!r}.") from error
    data = sets.find(given)
    knobs = {"pictures": pictures, "methods": [each.strip() for each in attacks.split(",") if each.strip()]}
    knobs |= {"norm": norm, "epsilons": list(sizes), "steps": steps, "seed": seed}
    table, stopped = run.to_end(robust.curves_steps(networks, data, **knobs), "robustness")
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "curve.csv", index=False)
    np.savez(out / "numbers.npz", allow_pickle=False, **records.taken_apart(table, "")[0])
    record = {
        "command": "robustness",
        "nets": [{"name": each.name, "sha256": each.sha256, "output": each.output} for each in networks],
        "data": {"name": data.name, "digest": data.digest, "known": sorted(set(table.known))},
        "knobs": knobs,
        **stopped,
        "engine": networks[0].engine,
        "versions": records.versions(),
    }
    (out / "result.json").write_text(jsons.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    rows = table.assign(epsilon=[f"{each * unit:.4g}" for each in table.epsilon])
    rows = rows.assign(**{key: [f"{share:.1%}" for share in table[key]] for key in ("accuracy", "low", "high")})
    columns = ["net", "attack", "epsilon", "accuracy", "low", "high", "right", "count"]
    click.echo(in_columns(rows[columns].values.tolist(), columns))
    click.echo(f"\nepsilon: {'of 255' if norm == 'L∞' else 'length, in pixel values'}; classes by {table.known[0]}")
    run.leave_if(stopped, out)


@click.command()
@click.option("--net", required=True, metavar="NET", help="A network: a name, or a file.")
@click.option("--output", metavar="OUTPUT", help="The network's output to ask.  [default: the first]")
@click.option("--data", "given", required=True, metavar="DATA", help="Pictures, as `index` takes them.")
@click.option("--class", "class_", required=True, metavar="CLASS", help="Number or label of the class to become.")
@click.option("--pictures", type=click.IntRange(1), default=64, show_default=True, help="How many to train on.")
@click.option("--held", type=click.IntRange(1), default=100, show_default=True, help="How many others to measure on.")
@click.option("--steps", type=click.IntRange(1), default=150, show_default=True, help="Of training.")
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Pictures a step.")
@click.option("--rate", default=0.1, show_default=True, help="Adam's.")
@click.option(
    "--share",
    type=(float, float),
    default=(0.3, 0.5),
    show_default=True,
    help="Its side as a share of the picture's shorter one, from and to.",
)
@click.option("--turn", default=22.5, show_default=True, help="Degrees at most that it is turned by, either way.")
@click.option("--seed", default=0, show_default=True, help="Of all that is drawn by lot.")
@click.option("--film", is_flag=True, help="Write how the patch came about, too: film.gif and film.mp4.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def patch(
    net: str,
    output: str | None,
    given: str,
    class_: str,
    pictures: int,
    held: int,
    seed: int,
    film: bool,
    out: Path,
    **knobs: Any,
) -> None:
    """Train a patch that makes pictures be taken for a class wherever it lies, and measure how often it does.

    It is measured on pictures of the set that it was not trained on, beside the same patch with its pixels shuffled.
    Writes patch.png (transparent outside of its circle), print.png (1,200 pixels a side: 10 cm at 300 dots per inch),
    rates.csv, numbers.npz and result.json. A run that is stopped early leaves the patch that there is by then.
    """
    from engine import image as images
    from engine.data import sets
    from engine.fool import adversarial_patch as patches
    from engine.pictures.film import Film

    network, data, shot = Net(available.find(net), output=output), sets.find(given), Film() if film else None
    k = network.class_index(class_)
    train, test = patches.parted(data, network, k, pictures=pictures, held=held, seed=seed)
    steps = patches.adversarial_patch_steps(network, train, k, seed=seed, **knobs)
    climb, stopped = run.to_end(steps, "patch", shot, lambda found: patches.printable(found.picture, patches.SIDE))
    drawn = {"share": knobs["share"], "turn": knobs["turn"], "seed": seed + 1}
    for step in run.shown(patches.rates_steps(network, test, climb.picture, k, **drawn), "measure"):  # noqa: B007
        pass
    table = step.result.table()
    record = {
        "command": "patch",
        "net": {"name": network.name, "sha256": network.sha256, "output": network.output},
        "data": {"name": data.name, "digest": data.digest, "trained_on": len(train), "measured_on": len(test)},
        "class": {"index": k, "label": network.labels[k]},
        "knobs": {"pictures": pictures, "held": held, "seed": seed, **knobs},
        **stopped,
        "rates": table.to_dict("records"),
        "engine": network.engine,
        "versions": records.versions(),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "patch.png").write_bytes(images.to_png(patches.cut_out(climb.picture), record))
    (out / "print.png").write_bytes(images.to_png(patches.printable(climb.picture)))
    table.to_csv(out / "rates.csv", index=False)
    (out / "result.json").write_text(jsons.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    np.savez(out / "numbers.npz", allow_pickle=False, **patches.numbers(climb, step.result))
    if shot is not None:
        (out / "film.gif").write_bytes(shot.gif())
        (out / "film.mp4").write_bytes(shot.mp4())
    shown = table.assign(**{key: [f"{share:.1%}" for share in table[key]] for key in ("share", "low", "high")})
    click.echo(
        in_columns(shown.values.tolist(), ["with", f"taken for {network.labels[k]}", "of", "share", "low", "high"])
    )
    run.leave_if(stopped, out)


@click.command()
@click.option("--nets", "names", required=True, metavar="NET,NET…", help="Networks: names or files, commas between.")
@click.option("--image", "images", required=True, multiple=True, metavar="PIC", help="A picture; give it repeatedly.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def transfer(names: str, images: tuple[str, ...], out: Path) -> None:
    """Say what each of several networks takes pictures for: whom else does a picture fool that was made for one?

    Give the picture before and after. Writes transfer.csv, a row per picture and network.
    """
    from engine.fool.survival import transfer as said_of

    networks = [Net(available.find(name.strip())) for name in names.split(",") if name.strip()]
    table = said_of(networks, {given: run.picture(given).pixels for given in images})
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "transfer.csv", index=False)
    said = table.assign(said=[f"{row.label} {row.probability:.0%}" for row in table.itertuples()])
    matrix = said.pivot(index="picture", columns="net", values="said")
    rows = [(name, *(matrix.loc[name, each.name] for each in networks)) for name in images]
    click.echo(in_columns(rows, ["picture", *(each.name for each in networks)]))


@click.command("one-pixel-rate")
@click.option("--net", required=True, metavar="NET", help="A network: a name, or a file.")
@click.option("--output", metavar="OUTPUT", help="The network's output to ask.  [default: the first]")
@click.option("--data", "given", required=True, metavar="DATA", help="Pictures, as `index` takes them.")
@click.option("--pictures", type=click.IntRange(1), default=50, show_default=True, help="How many, drawn by lot.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Pixels that may be changed.")
@click.option("--population", type=click.IntRange(4), default=80, show_default=True, help="Candidates in a generation.")
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True, help="Generations at most.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn by lot.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def one_pixel_rate(net: str, output: str | None, given: str, pictures: int, out: Path, **knobs: int) -> None:
    """Count on how many pictures one pixel, or a few, make the network say something else than they are.

    Pictures that it has wrong from the start are not counted. Writes pictures.csv (a row per picture) and result.json
    (the rate with its 95 % interval). A run that is stopped early leaves the pictures that were done by then.
    """
    from engine.data import sets
    from engine.data.examples import examples
    from engine.fool import one_pixel

    network, data, step, stopped = Net(available.find(net), output=output), sets.find(given), None, {}
    drawn = examples(data, network, pictures, seed=knobs["seed"])
    try:
        steps = one_pixel.success_steps(network, drawn.pixels, drawn.classes, **knobs)
        for step in run.shown(steps, "one-pixel-rate"):  # noqa: B007
            pass
    except KeyboardInterrupt:
        if step is None or not len(step.result):
            raise
        stopped = {"stopped": {"done": len(step.result), "of": len(drawn)}}
    table, found = one_pixel.named(step.result, network, data, drawn), one_pixel.rate(step.result)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "pictures.csv", index=False)
    record = {
        "command": "one-pixel-rate",
        "net": {"name": network.name, "sha256": network.sha256, "output": network.output},
        "data": {"name": data.name, "digest": data.digest, "known": drawn.by},
        "knobs": {"pictures": pictures, **knobs},
        **stopped,
        "facts": found,
        "engine": network.engine,
        "versions": records.versions(),
    }
    (out / "result.json").write_text(jsons.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    click.echo(
        f"{found['rate']:.1%} (95 % interval: {found['low']:.1%} to {found['high']:.1%}): {found['fooled']} fooled of "
        f"{found['right']} that {network.name} has right, of {found['pictures']} pictures of {data.name}; classes by "
        f"{drawn.by}."
    )
    if stopped:
        click.echo(f"Stopped after {len(table)} of {len(drawn)}; they are in {out}.", err=True)
        click.get_current_context().exit(run.INTERRUPTED)
