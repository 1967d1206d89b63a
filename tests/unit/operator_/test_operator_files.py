"""A kubeconfig or CRD file that cannot be used is told in one line, whatever the libraries make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coterie_operator.arguments import parse
from coterie_operator.crd import CrdError, read_crds
from coterie_operator.kube import connect
from coterie_operator.main import run

CONTEXT = "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
NAMED = CONTEXT + "contexts: [{name: a, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
DAMAGED = {
    "empty": b"",
    "a list": b"- a\n",
    "a word": b"hello\n",
    "bytes": b"\xff\xfe\x00\x80",
    "broken YAML": b"a: [",
    "no context": b"apiVersion: v1\nkind: Config\n",
    "contexts are null": (CONTEXT + "contexts: null\n").encode(),
    "contexts are text": (CONTEXT + "contexts: abc\n").encode(),
    "a context without a name": (CONTEXT + "contexts: [{}]\n").encode(),
    "a context that is a number": (CONTEXT + "contexts: [{name: a, context: 5}]\n").encode(),
    "a server that is a number": (NAMED + "clusters: [{name: c, cluster: {server: 7}}]\n").encode(),
    "a certificate that is none": (
        NAMED + "clusters: [{name: c, cluster: {server: 'https://[::1]:1', certificate-authority-data: aGVsbG8=}}]\n"
    ).encode(),
}


@pytest.mark.parametrize("kind", DAMAGED)
async def test_a_damaged_kubeconfig_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(ValueError, match="no Kubernetes by the kubeconfig") as raised:
        await connect(str(path))
    assert type(raised.value) is ValueError
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith("give --kubeconfig FILE, or run in a pod")


@pytest.mark.parametrize("path", ["/dev/null", "/", "/nonexistent/config"])
def test_no_kubeconfig_at_all_ends_the_operator_with_one_line(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(parse(["run", "--kubeconfig", path, "--node-image", "coterie:dev"], "1.0", {})) == 1
    said = capsys.readouterr().err
    assert said.startswith("coterie-operator: no Kubernetes by the kubeconfig")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"- a\n",
        b"hello",
        b"\xff\xfe",
        b"a: [",
        b"kind: CustomResourceDefinition\n",
        b"kind: CustomResourceDefinition\nmetadata: 5\n",
        b"kind: CustomResourceDefinition\nmetadata: {name: 5}\n",
    ],
)
def test_a_file_without_crds_is_told_in_one_line(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rings.yaml"
    path.write_bytes(text)
    with pytest.raises(CrdError, match=r"rings\.yaml") as raised:
        read_crds(path)
    assert "\n" not in str(raised.value)
