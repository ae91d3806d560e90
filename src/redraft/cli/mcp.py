"""`redraft mcp`: offer ask and check as tools to other programs, by the Model Context Protocol."""

from __future__ import annotations

from redraft.cli.options import Given, fill_in, takes


@takes()
def mcp(flags: Given) -> None:
    """Offer ask and check to other programs as tools (MCP).

    A client, such as an editor or an agent, starts the command and speaks the Model Context Protocol on
    standard input and output. The client chooses the prompt and the checks, which may not run programs or
    read files; the options decide the rest. The model is loaded at the first question. Needs the extra 'mcp'.
    """
    import asyncio

    from redraft.integrations.mcp import serve

    asyncio.run(serve(fill_in(flags)))
