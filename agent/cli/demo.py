"""`skadi demo`: a hall, the agent on it, and what it saves, in under four minutes."""

import asyncio
import json
import signal
from pathlib import Path

import click

from agent.cli.exits import Exit, fail
from agent.cli.options import json_option


@click.command()
@click.option("--scenario", default="heat-spike", show_default=True,
              help="One of skadi sim's scenarios.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--hours", type=click.FloatRange(min=0.05, max=48), default=2.0, show_default=True,
              help="Simulated hours.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(min=1, max=200),
              help="Times real time; by default as fast as ends two hours in under four minutes.")  # fmt: skip
@click.option("--train-hours", type=click.FloatRange(min=0.5, max=240), default=12.0,
              show_default=True, help="Simulated hours that the IMS model is trained on.")  # fmt: skip
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False),
              help="Keep site file, logs and journal here.")  # fmt: skip
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), metavar="SVG",
              help="Write the last screen and the verdict as a picture.")  # fmt: skip
@json_option
def demo(
    scenario: str, seed: int, hours: float, speed: float | None, train_hours: float,
    folder: Path | None, picture: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Run the whole thing on a simulated hall; it ends by itself with a verdict."""
    from agent.demo.children import ChildError
    from agent.demo.program import Demo, run_demo
    from agent.demo.stage import Stage

    stage = Stage(to_stderr=as_json)
    where = folder.resolve() if folder else None
    plan = Demo(scenario, seed, hours, speed, where, train_hours)

    async def work() -> dict[str, object]:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await run_demo(plan, stage)

    try:
        result = asyncio.run(work())
    except ChildError as error:
        fail(str(error))
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("skadi: stopped; every process of the demo has ended", err=True)
        raise click.exceptions.Exit(130) from None
    stage.verdict(result)
    if picture is not None:
        picture.write_text(stage.picture(result), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
    if result["failures"]:
        raise click.exceptions.Exit(int(Exit.FAILURE))
