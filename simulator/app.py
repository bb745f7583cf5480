"""The simulator's HTTP: the provider's API, the media it links to, and the control routes.

app = create_app(Settings(api_key="sk_test"))
"""

from __future__ import annotations

import io
import re
import time
import uuid
from collections.abc import Callable
from functools import partial

from flask import Blueprint, Flask, Response, abort, jsonify, request, send_file
from werkzeug.exceptions import HTTPException

from .audio import render_wav
from .covers import VIDEO, render_cover
from .deliveries import Post
from .instruments import STEMS
from .midi import render_midi
from .provider import Provider
from .replies import Refused, Reply, error_body
from .scenarios import BadScenario, Rule, vary
from .settings import Settings
from .table import TABLE

FAMILIES = sorted({operation.family for operation in TABLE})
MEDIA_NAME = re.compile(r"([0-9a-fA-F-]{36})(?:-(\w+))?\.(wav|mid|svg)")
CONTROLS = (
    "GET /_simulator/operations",
    "GET /_simulator/books?match=TEXT",
    'POST /_simulator/scenarios {"match": "TEXT", "times": 1, "scenario": {"webhook": "lost"}}',
    "DELETE /_simulator/scenarios",
    'PUT /_simulator/credits {"credits": 10}',
    'POST /_simulator/clips/ID/age {"hours": 25}',
)
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
MEDIA_TYPES = {"wav": "audio/wav", "mid": "audio/midi", "svg": "image/svg+xml"}


def create_app(
    settings: Settings,
    *,
    post: Post | None = None,
    clock: Callable[[], float] = time.time,
) -> Flask:
    """Build one simulator. Tests give `post` and `clock` in place of the network and the time."""
    provider = Provider(settings, post, clock)
    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True  # a dropped answer is the server's to drop
    app.register_blueprint(_api(provider))
    app.register_blueprint(_control(provider))
    app.add_url_rule("/media/<name>", view_func=_media)
    app.add_url_rule("/audiopipe/<name>", view_func=_media)
    return app


def _api(provider: Provider) -> Blueprint:
    """Route the documented paths. All others answer Flask's HTML 404 or 405, as in §1."""
    api = Blueprint("api", __name__, url_prefix="/api/v1")

    @api.before_request
    def authorize() -> None:
        provider.authorize(request.headers.get("Authorization"))

    @api.errorhandler(Refused)
    def refused(refusal: Refused) -> Response:
        provider.note_refusal(request.method, request.path, refusal.status)
        body = error_body(provider.settings, refusal.shape, refusal.status, refusal.message)
        return _respond(Reply(refusal.status, body, refusal.headers))

    def submit(path: str) -> Response:
        base_url = provider.settings.public_url or request.host_url
        return _respond(provider.submissions.submit(path, request.get_data(), base_url.rstrip("/")))

    for path in sorted({operation.path for operation in TABLE}):
        api.add_url_rule(path, path, partial(submit, path), methods=["POST"])

    @api.get(f"/<any({', '.join(FAMILIES)}):family>/task/<provider_task_id>")
    def poll(family: str, provider_task_id: str) -> Response:
        return _respond(provider.poll(family, provider_task_id))

    @api.get(f"/<any({', '.join(FAMILIES)}):family>/task/", strict_slashes=False)
    def poll_nothing(family: str) -> Response:
        raise Refused(400, "missing task id.")

    @api.get("/get-credits")
    def get_credits() -> Response:
        return jsonify(provider.balance())

    return api


def _respond(reply: Reply) -> Response:
    if isinstance(reply.body, str):
        response = Response(reply.body, mimetype="text/html")
    else:
        response = jsonify(reply.body)
    response.status_code = reply.status
    response.headers.update(reply.headers)
    return response


def _control(provider: Provider) -> Blueprint:
    """Route the controls by which a person, a test or a demo steers the simulator: `CONTROLS`."""
    control = Blueprint("control", __name__, url_prefix="/_simulator")

    @control.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="ok")

    @control.post("/scenarios")
    def add_rule() -> tuple[Response, int]:
        provider.rules.add(_read_rule(request.get_json(force=True), provider))
        return jsonify(status="added"), 201

    @control.delete("/scenarios")
    def clear_rules() -> tuple[str, int]:
        provider.rules.clear()
        return "", 204

    @control.post("/clips/<uuid:clip_id>/age")
    def age_clip(clip_id: uuid.UUID) -> tuple[str, int]:
        provider.catalogue.age(str(clip_id), _read_number("hours"))
        return "", 204

    @control.get("/operations")
    def operations() -> Response:
        return jsonify([operation.show(provider.settings) for operation in TABLE])

    @control.put("/credits")
    def set_credits() -> tuple[str, int]:
        provider.books.set_balance(_read_number("credits"))
        return "", 204

    @control.get("/books")
    def books() -> Response:
        return jsonify(provider.report(request.args.get("match", "")))

    @control.route("/", defaults={"name": ""}, methods=METHODS)
    @control.route("/<path:name>", methods=METHODS)
    def unknown(name: str) -> tuple[Response, int]:
        return _teach(f"there is no {request.method} /_simulator/{name}"), 404

    @control.errorhandler(BadScenario)
    def bad_scenario(error: BadScenario) -> tuple[Response, int]:
        return _teach(str(error)), 400

    @control.errorhandler(HTTPException)
    def bad_request(error: HTTPException) -> tuple[Response, int]:
        return _teach(error.description or error.name), error.code or 400

    return control


def _teach(error: str) -> Response:
    """Answer a wrong control request with an error and the list of all controls."""
    return jsonify(error=error, controls=CONTROLS)


def _read_number(name: str) -> float:
    """Read `{name: number}`. Aborts with 400."""
    body = request.get_json(force=True)
    number = body.get(name) if isinstance(body, dict) else None
    if isinstance(number, bool) or not isinstance(number, int | float):
        abort(400, f"{name}: a number is expected")
    return number


def _read_rule(body: object, provider: Provider) -> Rule:
    """Read `{"match": text, "times": n or null, "scenario": {…}}`. Raises `BadScenario`."""
    if not isinstance(body, dict) or not isinstance(body.get("scenario"), dict):
        raise BadScenario("scenario: an object is expected")
    unknown = set(body) - {"match", "times", "scenario"}
    if unknown:
        raise BadScenario(f"{', '.join(sorted(unknown))}: no such field")
    match, times = body.get("match"), body.get("times")
    if not isinstance(match, str):
        raise BadScenario("match: a text is expected")
    if times is not None and (type(times) is not int or times < 1):
        raise BadScenario("times: null or a whole number, one or more, is expected")
    return Rule(match, vary(provider.rules.default, body["scenario"]), times)


def _media(name: str) -> Response:
    """Serve a file made from its name: `<clip id>.wav`, `<clip id>-drums.wav`, `<clip id>.mid` …"""
    found = MEDIA_NAME.fullmatch(name)
    if found is None:
        abort(404)
    clip_id, stem, suffix = found[1], found[2] or "", found[3]
    if stem not in (STEMS if suffix != "svg" else ("", VIDEO)):
        abort(404)
    if suffix == "svg":
        content = render_cover(clip_id, moving=stem == VIDEO)
    else:
        content = (render_wav if suffix == "wav" else render_midi)(clip_id, stem)
    return send_file(io.BytesIO(content), MEDIA_TYPES[suffix], download_name=name)
