"""Packages of burnish's extras: whether they are there, before any work is done."""

import importlib

from schemas.errors import EnvironmentProblem


def need(*modules: str, extra: str, what: str, instead: str = "") -> None:
    """Refuse to go on without some packages.

    Args:
        what: what needs them, in the plural.
        instead: what else a person may do.

    Raises:
        EnvironmentProblem: one cannot be imported; its hint names the extra.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as problem:
            raise EnvironmentProblem(
                f"{what} need the package {problem.name or module}, which is not installed",
                hint=f"pip install 'burnish[{extra}]'" + (f", or {instead}" if instead else ""),
            ) from problem
