"""Published SDKs against a real `pipit serve`, unmodified: `make clients`.

They come from their registries into a folder of their own (`.clients/`). Each puts a file into a data source, replaces
its rows, deletes some, and truncates; what is in the table after each step is compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from processes import served

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".clients"
PYTHON_SDK = "tinybird-sdk==0.4.0"
TYPESCRIPT_SDK = "@tinybirdco/sdk@0.0.84"
EXPECTED = {
    "append": {"successful": True, "rows": 3},
    "with a bad row": {"quarantine_rows": 1, "rows": 4},
    "replace": {"rows": 2},
    "dry run": {"rows_to_be_deleted": 1, "rows": 2},
    "delete": {"rows": 1},
    "truncate": {"rows": 0},
}


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    python = FOLDER / "python" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER / "python")], check=True)
        # Without the CLI that it depends on: the client is in the SDK itself.
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", PYTHON_SDK], check=True)
    node = FOLDER / "node"
    if not (node / "node_modules").exists():
        node.mkdir(exist_ok=True)
        (node / "package.json").write_text('{"type": "module"}\n')
        subprocess.run(["npm", "install", "--silent", "--ignore-scripts", TYPESCRIPT_SDK], cwd=node, check=True)
    (node / "sdk_typescript.mjs").write_bytes((HERE / "sdk_typescript.mjs").read_bytes())
    commands = {
        "Python": [str(python), str(HERE / "sdk_python.py")],
        "TypeScript": ["node", str(node / "sdk_typescript.mjs")],
    }
    failed = False
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as server:
        token = (server.data / "admin_token").read_text().strip()
        for name, command in commands.items():
            files = {"first.csv": b"id\n1\n2\n3\n", "bad.csv": b"id\n4\nx\n", "second.ndjson": b'{"id":7}\n{"id":8}\n'}
            for file, content in files.items():
                (Path(folder) / file).write_bytes(content)
            environment = {**os.environ, "URL": f"http://127.0.0.1:{server.port}", "TOKEN": token, "FOLDER": folder}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
            found = json.loads(done.stdout) if done.returncode == 0 else {}
            for step, expected in EXPECTED.items():
                same = found.get(step) == expected
                failed |= not same
                print(f"{name:<11} {step:<15} {'ok' if same else f'FAILED: {found.get(step)} and not {expected}'}")
            if done.returncode:
                print(done.stdout, done.stderr, file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
