"""The house rule: imports point down only, and importing a file changes nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
SCRIPTS = ("train", "val", "detect", "export")
# They put parts together, as the scripts do.
WIRING = ("models.__init__", "models.exporting", "models.loading", "models.opening", "utils.serve.__main__")
FILES = sorted(
    path.relative_to(PROJECT) for folder in ("models", "utils") for path in (PROJECT / folder).rglob("*.py")
) + [Path(f"{script}.py") for script in SCRIPTS]
ROOMS = ("data", "train", "search", "eval", "detect", "export", "serve", "hooks")


def floor_of(module: str) -> str:
    """Return 'script', 'wiring', 'models', 'room' or 'ground' for a module of the project, '' for any other."""
    parts = module.split(".")
    if parts[0] in (*SCRIPTS, "hubconf"):
        return "script"
    if module.startswith(WIRING):
        return "wiring"
    if parts[0] == "models":
        return "models"
    if parts[0] == "utils":
        return "room" if len(parts) > 1 and parts[1] in ROOMS else "ground"
    return ""


ALLOWED = {
    "script": {"wiring", "models", "room", "ground"},
    "wiring": {"wiring", "models", "room", "ground"},
    "models": {"models", "ground"},
    "room": {"room", "ground"},
    "ground": {"ground"},
}


def imports_of(tree: ast.AST) -> list[str]:
    """Return every imported module, those for type checkers only left out."""
    skipped = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and getattr(branch.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_point_down(file):
    own = floor_of(".".join(file.with_suffix("").parts))
    tree = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
    for module in imports_of(tree):
        assert floor_of(module) in {"", *ALLOWED[own]}, f"{file} ({own}) imports {module}"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_text_is_run_as_code_and_nothing_is_imported_by_star(file):
    tree = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not calls & {"eval", "exec", "compile", "__import__"}
    assert not any(
        alias.name == "*" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    )
    assert not any(isinstance(node, ast.Global) for node in ast.walk(tree))


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_imports_no_torch(script):
    program = f"import sys; sys.argv = ['{script}.py', '--help']; import runpy\n"
    program += f"try: runpy.run_path('{script}.py', run_name='__main__')\n"
    program += "except SystemExit as stop: print('exit', stop.code)\n"
    program += "print('heavy', sorted({'torch', 'cv2', 'numpy', 'matplotlib', 'pandas'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "exit 0" in run.stdout
    assert "heavy []" in run.stdout


def test_importing_everything_changes_no_global_state():
    program = "import torch, torchvision, numpy, cv2, matplotlib.figure, pandas, PIL.Image\n"
    program += "import random, importlib, os; before = dict(os.environ); state = random.getstate()\n"
    modules = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in FILES]
    program += "threads = torch.get_num_threads(), cv2.getNumThreads()\n"
    program += "dtype = torch.get_default_dtype(); t = torch.get_rng_state(); n = str(numpy.random.get_state())\n"
    program += f"for name in {modules!r}: importlib.import_module(name)\n"
    program += "assert random.getstate() == state and dict(os.environ) == before\n"
    program += (
        "assert (torch.get_num_threads(), cv2.getNumThreads()) == threads and torch.get_default_dtype() == dtype\n"
    )
    program += "assert torch.equal(torch.get_rng_state(), t) and str(numpy.random.get_state()) == n; print('clean')"
    run = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True)
    assert run.stdout.strip() == "clean", run.stderr
