"""`pipit token keys`: key pairs of a team or its identity provider, whose JWTs the workspace accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from pipit import jsontext
from pipit.cli.commands import Commands
from pipit.cli.options import DataOption, HostOption, TokenOption, examples, pairs, resolve
from pipit.cli.output import note, printable, show_table
from pipit.cli.target import ask
from pipit.errors import BadRequest

app = Commands(help="Keys of your own, or of your identity provider, that may sign JWTs.")

Name = Annotated[str, typer.Argument(help="The registration's name.", metavar="NAME")]
_PATH = "/v0/workspace/keys"
_MAX_BYTES = 1024 * 1024


@app.command(
    "add",
    epilog=examples(
        "# your backend signs JWTs as `pipit token create jwt` makes them, with its private key",
        "pipit token keys add backend --jwks public.pem --kid backend-1",
        "# your identity provider says who somebody is; this says what that opens",
        "pipit token keys add login --issuer https://acme.eu.auth0.com/ --audience https://api.acme.com \\\\",
        "  --jwks-url https://acme.eu.auth0.com/.well-known/jwks.json --pipe usage --context customer_id=org_id",
        "# a nested claim is a list",
        'pipit token keys add login ... --context \'customer_id:=["app_metadata", "org"]\'',
    ),
)
def add(
    context: typer.Context,
    name: Name,
    jwks: Annotated[
        Path | None, typer.Option("--jwks", help="A JWK Set, a JWK, or a public key as PEM.", metavar="FILE")
    ] = None,
    jwks_url: Annotated[
        str, typer.Option("--jwks-url", help="Where the provider publishes its keys (https).", metavar="URL")
    ] = "",
    kid: Annotated[str, typer.Option("--kid", help="The 'kid' of a PEM key.", metavar="KID")] = "",
    issuer: Annotated[str, typer.Option("--issuer", help="The tokens' 'iss', exactly.", metavar="ISS")] = "",
    audience: Annotated[str, typer.Option("--audience", help="Must be in the tokens' 'aud'.", metavar="AUD")] = "",
    pipe: Annotated[
        list[str] | None, typer.Option("--pipe", help="A pipe that its tokens may read. Repeat it.", metavar="PIPE")
    ] = None,
    datasource: Annotated[
        list[str] | None,
        typer.Option("--datasource", help="A data source that its tokens may read. Repeat it.", metavar="NAME"),
    ] = None,
    append: Annotated[
        list[str] | None,
        typer.Option("--append", help="A data source that its tokens may send events to. Repeat it.", metavar="NAME"),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--context", help="context.KEY is this claim. Repeat it.", metavar="KEY=CLAIM"),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--fixed", help="The parameter KEY is fixed to this claim. Repeat it.", metavar="KEY=CLAIM"),
    ] = None,
    fixed_values: Annotated[
        list[str] | None,
        typer.Option(
            "--fixed-value", help="The column of every event is this claim. Repeat it.", metavar="COLUMN=CLAIM"
        ),
    ] = None,
    optional: Annotated[
        list[str] | None,
        typer.Option("--optional", help="A key of --context that a token may lack. Repeat it.", metavar="KEY"),
    ] = None,
    token_name: Annotated[
        str, typer.Option("--name-claim", help="The claim that names the token. Default: sub.", metavar="CLAIM")
    ] = "",
    environment: Annotated[
        str, typer.Option("--environment-claim", help="The claim that names the environment.", metavar="CLAIM")
    ] = "",
    rps: Annotated[int, typer.Option(help="Requests per second of each name; 0 for no limit.", metavar="N", min=0)] = 0,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Registers a key, or replaces the one of this name.

    Without --pipe, --datasource and --append the tokens are JWTs as ours are, with workspace_id, scopes and context.
    With one of them they are an identity provider's: --issuer and --audience are needed, and what the tokens open is
    said here, not in them.
    """
    scopes = [{"type": "PIPES:READ", "resource": p} for p in pipe or []]
    scopes += [{"type": "DATASOURCES:READ", "resource": d} for d in datasource or []]
    scopes += [{"type": "DATASOURCES:APPEND", "resource": a} for a in append or []]
    wanted: dict[str, Any] = {
        "issuer": issuer,
        "audience": audience,
        "jwks": read_keys(jwks, kid) if jwks else None,
        "jwks_url": jwks_url,
        "scopes": scopes,
        "context": pairs(values or [], "--context"),
        "fixed_params": pairs(fixed or [], "--fixed"),
        "fixed_values": pairs(fixed_values or [], "--fixed-value"),
        "optional": optional,
        "token_name": token_name,
        "environment": environment,
        "rps": rps,
    }
    said = {field: value for field, value in wanted.items() if value}
    made = ask(resolve(context, data, host, token), "PUT", f"{_PATH}/{quote(name, safe='')}", json=said)
    known = len(made["known_keys"])
    note(f"Key {name} is registered: {known} public key{'' if known == 1 else 's'}.")
    if not known:
        note("The URL has not answered with keys yet; the server's log says why. It is asked again.")


def read_keys(path: Path, kid: str) -> dict[str, Any]:
    """A file's public keys as a JWK Set. A private key never leaves this machine: it is refused. Raises BadRequest."""
    try:
        content = path.read_bytes()[:_MAX_BYTES]
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}") from None
    if b"PRIVATE KEY" in content:
        raise BadRequest(
            f"{path} holds a private key", hint="Give the public half: openssl pkey -in private.pem -pubout"
        )
    if content.lstrip().startswith(b"-----BEGIN"):
        return {"keys": [_jwk(path, content) | ({"kid": kid} if kid else {})]}
    try:
        found = jsontext.exact(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadRequest(f"{path} is neither a JWK Set nor a public key as PEM")
    return found if "keys" in found else {"keys": [found | ({"kid": kid} if kid else {})]}


def _jwk(path: Path, content: bytes) -> dict[str, Any]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise BadRequest(f"{path} is not a public key as PEM", hint="-----BEGIN PUBLIC KEY-----") from None
    if isinstance(key, RSAPublicKey):
        made: dict[str, Any] = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, EllipticCurvePublicKey):
        made = ECAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, Ed25519PublicKey):
        made = OKPAlgorithm.to_jwk(key, as_dict=True)
    else:
        raise BadRequest(f"The key in {path} is not for JWTs", hint="RSA, EC (P-256, P-384, P-521) or Ed25519.")
    return {name: value for name, value in made.items() if name != "key_ops"}


@app.command("ls", epilog=examples("pipit token keys ls"))
def list_keys(
    context: typer.Context, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Lists who else may sign JWTs of the workspace, and the public keys that count now."""
    found = ask(resolve(context, data, host, token), "GET", _PATH)["keys"]
    table = Table("Name", "Issuer", "Audience", "Keys", "From", "Opens")
    for item in found:
        keys = ", ".join(f"{k['alg']} {k['kid']}".strip() for k in item["known_keys"])
        opens = ", ".join(f"{s['type']}:{s['resource']}" for s in item.get("scopes", [])) or "what its tokens say"
        cells = [item["name"], item.get("issuer", ""), item.get("audience", ""), keys, item.get("jwks_url", ""), opens]
        table.add_row(*(printable(str(cell)) for cell in cells))
    show_table(table)


@app.command("rm", epilog=examples("pipit token keys rm backend"))
def remove(
    context: typer.Context, name: Name, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Removes a key. Every JWT that it signed is refused from the next request on."""
    ask(resolve(context, data, host, token), "DELETE", f"{_PATH}/{quote(name, safe='')}")
    note(f"Key {name} is removed.")
