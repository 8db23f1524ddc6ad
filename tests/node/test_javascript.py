"""The official JavaScript clients against a server of one's own, told where it is in each way that there is."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from svdlab.server.connect import preload_path
from tests.node.conftest import Hooks, Node
from tests.server.running import Running, until

pytestmark = [pytest.mark.node, pytest.mark.slow]

APP = "fal-ai/fast-svd-lcm"
COMMON = ("subscribe", "queue", "nothing", "invalid", "wrongKey", "timeout", "webhook")
CANCEL = ("cancelQueued", "cancelRunning", "cancelCompleted")
LIVE = ("run", "streamStatus", "subscribeStreaming", "upload", "autoUpload")
EVERYWHERE = (*COMMON, *CANCEL, *LIVE)
COLUMNS: dict[tuple[str, str], tuple[str, ...]] = {
    ("client", "preload"): (*EVERYWHERE, "multipart", "noInput", "early", "elsewhere"),
    ("client", "proxy"): (*EVERYWHERE, "multipart", "early"),
    ("client", "middleware"): (*EVERYWHERE, "multipart"),
    ("client", "fetch"): (*EVERYWHERE, "multipart"),
    ("serverless-client", "preload"): EVERYWHERE,  # the deprecated one sends every file whole
    ("serverless-client", "middleware"): EVERYWHERE,
}

Column = Callable[[str, str], dict[str, Any]]


def having(case: str) -> pytest.MarkDecorator:
    """Every column that has the case."""
    columns = [column for column, cases in COLUMNS.items() if case in cases]
    return pytest.mark.parametrize(("client", "way"), columns, ids=["-".join(column) for column in columns])


def refused(seen: Any, status: int) -> dict[str, Any]:
    """The error of a case that was refused with this status."""
    assert seen["error"]["status"] == status, seen
    return seen["error"]


@having("subscribe")
def test_subscribe(column: Column, client: str, way: str) -> None:
    seen = column(client, way)["subscribe"]
    assert seen["states"][-1] == "COMPLETED"
    assert set(seen["states"]) <= {"IN_QUEUE", "IN_PROGRESS", "COMPLETED"}
    assert seen["lines"].count("decoding") == 1  # the last update has the whole log
    assert seen["data"]["seed"] == 42
    assert seen["data"]["video"]["content_type"] == "video/mp4"
    assert (seen["file"]["status"], seen["file"]["type"], seen["file"]["brand"]) == (200, "video/mp4", "ftyp")
    assert seen["file"]["size"] == seen["data"]["video"]["file_size"]
    if client == "client":
        assert len(seen["requestId"]) == 36  # taken from a header alone


@having("queue")
def test_submit_status_and_result(column: Column, client: str, way: str) -> None:
    seen = column(client, way)["queue"]
    id, status = seen["submitted"]["request_id"], seen["status"]
    assert seen["submitted"]["status"] == "IN_QUEUE"
    assert (status["status"], status["request_id"]) == ("COMPLETED", id)
    assert [line["message"] for line in status["logs"]][:2] == [
        "tiny-random: 2 frames of 64x64, seed 42",
        "step 1 of 1",
    ]
    assert status["metrics"]["inference_time"] >= 0
    assert seen["data"]["seed"] == 42


@having("early")
def test_a_result_that_is_asked_for_too_early(column: Column, client: str, way: str) -> None:
    assert "in progress" in refused(column(client, way)["early"], 400)["message"]


@having("cancelQueued")
def test_cancel_a_job_that_waits(column: Column, client: str, way: str) -> None:
    seen = column(client, way)["cancelQueued"]
    assert "error" not in seen["cancelled"]
    assert (seen["status"]["status"], seen["status"]["error_type"]) == ("COMPLETED", "client_cancelled")


@having("cancelRunning")
def test_cancel_a_job_that_runs(column: Column, client: str, way: str) -> None:
    seen = column(client, way)["cancelRunning"]
    assert "error" not in seen["cancelled"]
    assert seen["status"]["status"] == "COMPLETED"
    assert "cancelled" in refused(seen["result"], 499)["message"]


@having("cancelCompleted")
def test_cancel_a_job_that_is_over(column: Column, client: str, way: str) -> None:
    assert "completed" in refused(column(client, way)["cancelCompleted"]["cancelled"], 400)["message"]


@having("nothing")
def test_a_job_that_never_was(column: Column, client: str, way: str) -> None:
    assert refused(column(client, way)["nothing"], 404)["message"] == "Request not found"


@having("elsewhere")
def test_another_endpoint(column: Column, client: str, way: str) -> None:
    assert APP in refused(column(client, way)["elsewhere"], 404)["message"]


@having("invalid")
def test_a_setting_that_cannot_be(column: Column, client: str, way: str) -> None:
    error = refused(column(client, way)["invalid"], 422)
    assert error["name"] == "ValidationError"
    assert error["body"]["detail"][0]["loc"] == ["body", "motion_bucket_id"]


@having("noInput")
def test_no_input_at_all(column: Column, client: str, way: str) -> None:
    assert "picture is needed" in refused(column(client, way)["noInput"], 422)["message"]


@having("wrongKey")
def test_a_wrong_key(column: Column, client: str, way: str) -> None:
    assert "key" in refused(column(client, way)["wrongKey"], 401)["message"]


@having("timeout")
def test_a_client_that_does_not_wait(column: Column, client: str, way: str) -> None:
    assert "timed out" in column(client, way)["timeout"]["error"]["message"]


@having("run")
def test_the_synchronous_run(column: Column, client: str, way: str) -> None:
    seen = column(client, way)["run"]
    assert (seen["data"]["seed"], seen["data"]["video"]["content_type"]) == (42, "video/mp4")
    if client == "client":
        assert len(seen["requestId"]) == 36


@having("streamStatus")
def test_the_status_as_a_stream(column: Column, client: str, way: str) -> None:
    seen = column(client, way)["streamStatus"]
    assert (seen["states"][-1], seen["last"]["status"]) == ("COMPLETED", "COMPLETED")
    assert seen["lines"].count("step 1 of 1") == 1  # a stream sends each line once, unlike a poll


@having("subscribeStreaming")
def test_subscribe_over_the_stream(column: Column, client: str, way: str) -> None:
    seen = column(client, way)["subscribeStreaming"]
    assert (seen["states"][-1], seen["data"]["seed"]) == ("COMPLETED", 42)


@having("upload")
def test_upload(column: Column, node: Node, client: str, way: str) -> None:
    seen = column(client, way)["upload"]
    assert seen["url"].startswith(f"{node.url}/files/")
    assert (seen["kept"]["status"], seen["kept"]["type"], seen["kept"]["brand"]) == (200, "image/png", "\r\n\x1a\n")
    assert seen["data"]["seed"] == 42


@having("autoUpload")
def test_a_blob_in_the_input_is_uploaded_by_the_client(column: Column, client: str, way: str) -> None:
    assert column(client, way)["autoUpload"]["data"]["seed"] == 42


@having("multipart")
def test_a_large_file_goes_in_parts(column: Column, client: str, way: str) -> None:
    seen = column(client, way)["multipart"]
    assert (seen["status"], seen["range"]) == (206, f"bytes {seen['size'] - 7}-{seen['size'] - 1}/{seen['size']}")


@having("webhook")
def test_a_webhook_comes_and_is_signed(column: Column, hooks: Hooks, server: Running, client: str, way: str) -> None:
    id = column(client, way)["webhook"]["requestId"]
    headers, body = until(lambda: next((hook for hook in hooks.seen if json.loads(hook[1])["request_id"] == id), None))
    assert json.loads(body)["status"] == "OK"
    assert json.loads(body)["payload"]["seed"] == 42
    keys = httpx.get(f"{server.url}/.well-known/jwks.json", trust_env=False).json()["keys"]
    names = ("Request-Id", "User-Id", "Timestamp")
    parts = [headers[f"X-Fal-Webhook-{name}"] for name in names] + [hashlib.sha256(body).hexdigest()]
    x = keys[0]["x"]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)))
    signature = bytes.fromhex(headers["X-Fal-Webhook-Signature"])
    public.verify(signature, "\n".join(parts).encode())
    with pytest.raises(InvalidSignature):
        public.verify(signature, "\n".join([*parts[:3], "0" * 64]).encode())


SUBSCRIBE = """
import { fal } from "@fal-ai/client";

const result = await fal.subscribe("fal-ai/fast-svd-lcm", {
  input: {
    image_url: "PICTURE"
  },
  logs: true,
  onQueueUpdate: (update) => {
    if (update.status === "IN_PROGRESS") {
      update.logs.map((log) => log.message).forEach(console.log);
    }
  },
});
console.log(result.data);
console.log(result.requestId);
"""

CONFIG = """
import { fal } from "@fal-ai/client";

fal.config({
  credentials: "YOUR_FAL_KEY"
});
"""

SUBMIT = """
import { fal } from "@fal-ai/client";

const { request_id } = await fal.queue.submit("fal-ai/fast-svd-lcm", {
  input: {
    image_url: "PICTURE"
  },
  webhookUrl: "https://optional.webhook.url/for/results",
});
"""

STATUS = """
import { fal } from "@fal-ai/client";

const status = await fal.queue.status("fal-ai/fast-svd-lcm", {
  requestId: "764cabcf-b745-4b3e-ae38-1200304cf45b",
  logs: true,
});
"""

RESULT = """
import { fal } from "@fal-ai/client";

const result = await fal.queue.result("fal-ai/fast-svd-lcm", {
  requestId: "764cabcf-b745-4b3e-ae38-1200304cf45b"
});
console.log(result.data);
console.log(result.requestId);
"""

UPLOAD = """
import { fal } from "@fal-ai/client";

const file = new File(["Hello, World!"], "hello.txt", { type: "text/plain" });
const url = await fal.storage.upload(file);
"""


def program(node: Node, text: str, tail: str = "", **options: Any) -> list[str]:
    """Run a program of the page and return its lines: unchanged, but for the values that stand there as examples."""
    done = node.run("--input-type=module", "-", input=text.replace("PICTURE", node.picture) + tail, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_page_of_the_endpoint_runs_unchanged(node: Node) -> None:
    """Its first program; here the picture itself stands for the address of a picture."""
    said = program(node, SUBSCRIBE)
    assert "25 frames of 64x64" in said[0]  # a line of the log, with the index and the list that forEach adds
    assert any(line.strip().startswith(f"url: '{node.url}/files/") for line in said)
    assert any("content_type: 'video/mp4'" in line for line in said)
    assert len(said[-1]) == 36


def test_so_do_its_programs_for_the_queue(node: Node) -> None:
    (id,) = program(node, SUBMIT, "console.log(request_id);")
    example = "764cabcf-b745-4b3e-ae38-1200304cf45b"
    asked = STATUS.replace(example, id)
    last = until(lambda: (seen := program(node, asked, "console.log(status.status);")) == ["COMPLETED"] and seen)
    assert last == ["COMPLETED"]
    said = program(node, RESULT.replace(example, id))
    assert any("content_type: 'video/mp4'" in line for line in said)
    assert said[-1] == id


def test_so_does_its_program_for_the_key(node: Node) -> None:
    config = CONFIG.replace("YOUR_FAL_KEY", node.key)
    rest = SUBMIT.replace('import { fal } from "@fal-ai/client";', "")
    assert program(node, config + rest, env={"FAL_KEY": ""}) == []
    done = node.run("--input-type=module", "-", input=CONFIG + rest.replace("PICTURE", node.picture))
    assert "invalid key credentials" in done.stderr  # the key of the configuration goes before that of the environment


def test_so_does_its_program_for_uploads(node: Node) -> None:
    (url,) = program(node, UPLOAD, "console.log(url);")
    assert (url.startswith(f"{node.url}/files/"), url.rpartition("/")[2]) == (True, "hello.txt")
    assert httpx.get(url, trust_env=False).text == "Hello, World!"


def test_the_lines_of_the_documentation_are_enough(node: Node) -> None:
    """`docs/endpoint.md`: the server as the client's proxy, with nothing imported before."""
    page = (Path(__file__).parents[2] / "docs" / "endpoint.md").read_text()
    lines = page.partition("```js\n")[2].partition("```")[0]
    assert "http://127.0.0.1:8000" in lines
    rest = SUBSCRIBE.replace('import { fal } from "@fal-ai/client";', "")
    said = program(node, lines.replace("http://127.0.0.1:8000", node.url) + rest, preload=False)
    assert "25 frames of 64x64" in said[0]
    assert any(line.strip().startswith(f"url: '{node.url}/files/") for line in said)


PROBE = (
    'for (const url of {urls}) try {{ await fetch(url); console.log("ok"); }} catch (e) {{ console.log(e.message); }}'
)


def test_the_preload_lets_nothing_through_to_the_hosted_service(node: Node) -> None:
    urls = ["https://fal.media/x", "https://queue.falrun.com/x", "https://api.fal.ai/x", "https://example.org/"]
    done = node.run("--input-type=module", "-", input=PROBE.format(urls=urls))
    lines = done.stdout.splitlines()
    assert [line.partition(" ")[0] for line in lines[:3]] == ["fal.media", "queue.falrun.com", "api.fal.ai"]
    assert all(f"belongs to the hosted service, and {node.url} does not stand for it" in line for line in lines[:3])
    assert lines[3] == "the test refuses to leave the machine: example.org"  # not the preload's to refuse


def test_the_preload_rewrites_every_form_of_an_address(node: Node) -> None:
    url = f"https://queue.fal.run/{APP}/requests/none/status?logs=1"
    program = f"""
    const options = {{ headers: {{ authorization: "Key " + process.env.FAL_KEY }} }};
    for (const form of ["{url}", new URL("{url}"), new Request("{url}", options)])
      console.log((await fetch(form, form instanceof Request ? undefined : options)).status);
    """
    done = node.run("--input-type=module", "-", input=program)
    assert done.stdout.split() == ["404", "404", "404"], done.stderr


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://127.0.0.1", "http://127.0.0.1:8000/queue"])
def test_the_preload_wants_the_address_of_a_server(node: Node, url: str) -> None:
    imported = f"--import={preload_path()}"
    done = node.run(imported, "-e", "0", preload=False, env={"SVDLAB_URL": url})
    assert done.returncode != 0
    assert "must be the address of a server, such as http://127.0.0.1:8000" in done.stderr
