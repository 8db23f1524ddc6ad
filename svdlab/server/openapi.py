"""The server's description of itself (OpenAPI 3.1): what each route takes and answers."""

from __future__ import annotations

import inspect
import re
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from svdlab.server.schema import Output, input_model

_ERROR = {
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {"description": "What is wrong: a sentence, or for inputs a list with one entry a field."},
        "message": {"type": "string"},
        "error_type": {"type": "string"},
    },
}
_STATUS = {
    "type": "object",
    "required": ["status", "request_id", "response_url", "status_url", "cancel_url"],
    "properties": {
        "status": {"enum": ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]},
        "request_id": {"type": "string", "format": "uuid"},
        "response_url": {"type": "string"},
        "status_url": {"type": "string"},
        "cancel_url": {"type": "string"},
        "queue_position": {"type": "integer", "minimum": 0},
        "logs": {"type": ["array", "null"], "items": {"type": "object"}},
        "metrics": {"type": "object"},
        "error": {"type": "string"},
        "error_type": {"type": "string"},
    },
}
_ANY = {"type": "object"}
_INPUT, _OUTPUT = {"$ref": "#/components/schemas/Input"}, {"$ref": "#/components/schemas/Output"}
_ANNOUNCED = {
    "type": "object",
    "required": ["upload_url", "file_url"],
    "properties": {"upload_url": {"type": "string"}, "file_url": {"type": "string"}},
}
_JOB_ERRORS = (400, 401, 403, 413, 415, 422, 429, 500)
_BY_HANDLER: dict[str, dict[str, Any]] = {
    "submit": {"body": _INPUT, "answers": {200: _STATUS}, "errors": _JOB_ERRORS},
    "status": {"answers": {200: _STATUS, 202: _STATUS}, "errors": (401, 404)},
    "status_stream": {"answers": {200: "text/event-stream"}, "errors": (401, 404, 429)},
    "result": {"answers": {200: _OUTPUT}, "errors": (400, 401, 404, 422, 499, 500, 504)},
    "cancel": {"answers": {200: _ANY, 202: _ANY}, "errors": (400, 401, 404)},
    "run": {"body": _INPUT, "answers": {200: _OUTPUT}, "errors": (*_JOB_ERRORS, 499, 504)},
    "initiate": {"body": _ANY, "answers": {200: _ANNOUNCED}, "errors": (400, 401, 413, 415, 422)},
    "initiate_parts": {"body": _ANY, "answers": {200: _ANNOUNCED}, "errors": (400, 401, 413, 415, 422)},
    "session": {"answers": {200: _ANY}, "errors": (401,)},
    "complete": {"body": _ANY, "answers": {200: _ANY}, "errors": (400, 403, 413, 415, 422), "open": True},
    "put_file": {"bytes": True, "answers": {200: _ANY}, "errors": (400, 403, 413, 415), "open": True},
    "put_part": {"bytes": True, "answers": {200: _ANY}, "errors": (400, 403, 413, 422), "open": True},
    "upload": {"bytes": True, "answers": {200: _ANY}, "errors": (400, 403, 413)},
    "session_parts": {"answers": {200: _ANY}, "errors": (403,)},
    "fetch_file": {"answers": {200: "application/octet-stream", 206: "application/octet-stream"}, "errors": (404, 416)},
    "health": {"answers": {200: _ANY}, "errors": (), "open": True},
    "jwks": {"answers": {200: _ANY}, "errors": (), "open": True},
}
_BY_HANDLER["fetch_file"]["open"] = True


def document(app: FastAPI) -> dict[str, Any]:
    """The description of all routes that are meant to be seen.

    Example:
        >>> document(app)["paths"]["/queue/fal-ai/fast-svd-lcm"]["post"]["summary"]
        'Put a request into the queue.'
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                paths.setdefault(route.path, {})[method.lower()] = _operation(route)
    schemas = {
        "Input": _schema(input_model()),
        "Output": _schema(Output, ref_template="#/components/schemas/Output/$defs/{model}"),
        "Error": _ERROR,
    }
    security = {"type": "apiKey", "in": "header", "name": "Authorization", "description": "Key ID:SECRET"}
    return {
        "openapi": "3.1.0",
        "info": {"title": app.title, "version": app.version},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": security}},
        "security": [{"key": []}],
    }


def _schema(model: Any, **options: Any) -> dict[str, Any]:
    return model.model_json_schema(**options)


def _operation(route: APIRoute) -> dict[str, Any]:
    about = _BY_HANDLER[route.endpoint.__name__]
    text = inspect.getdoc(route.endpoint) or ""
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.endpoint.__name__.startswith("status"):
        parameters.append({"name": "logs", "in": "query", "schema": {"enum": ["0", "1", "true", "false"]}})
    operation: dict[str, Any] = {
        "operationId": route.name + route.path.replace("/", "_").replace("{", "").replace("}", ""),
        "summary": text.split("\n")[0],
        "parameters": parameters,
        "responses": {str(code): _answer(kind) for code, kind in about["answers"].items()},
    }
    for code in about["errors"]:
        operation["responses"][str(code)] = _answer({"$ref": "#/components/schemas/Error"})
    if "body" in about:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": about["body"]}}}
    if "bytes" in about:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": content}
    if about.get("open"):
        operation["security"] = []
    return operation


def _answer(kind: Any) -> dict[str, Any]:
    if isinstance(kind, str):
        return {"description": kind, "content": {kind: {"schema": {"type": "string"}}}}
    return {"description": "JSON", "content": {"application/json": {"schema": kind}}}
