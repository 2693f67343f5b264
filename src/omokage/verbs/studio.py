"""`omokage studio`: a page in the browser on which a face is found."""

from pathlib import Path
from typing import Annotated

import typer

from .options import need, within


def studio(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN", help="Runs, snapshots or names of models. Default: the one that ships."
        ),
    ] = None,
    port: Annotated[int, typer.Option(callback=within(0, 65535), help="The port; 0: any free one.")] = 7860,
    host: Annotated[
        str, typer.Option(help="The address to listen on; one beyond this machine needs a token.")
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    data_folder: Annotated[
        Path | None, typer.Option(help="The folder of the boards. Default: one of your own.")
    ] = None,
    directions: Annotated[
        Path | None, typer.Option(help="A file of omokage directions, for the model that it belongs to.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another host name to answer to; may be repeated.")
    ] = None,
) -> None:
    """Open a page in the browser: roll, steer, mix and keep faces, and save them."""
    need("omokage studio", "studio", "fastapi", "uvicorn")
    from ..studio.server import serve

    serve(
        runs or (),
        host=host,
        port=port,
        data=data_folder,
        directions=directions,
        hosts=tuple(allow_host or ()),
        browser=not no_browser,
        tell=lambda line: print(line, flush=True),
    )
