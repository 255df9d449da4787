"""What a user of the public Python SDK does, against a running server.

The environment names the server and the authentication mode (`DIRECTORY_CLIENT_*`); `make test` starts one.
The SDK's stubs are generated from this repository's protos by scripts/install-python-sdk.sh.
"""

import time

import grpc
import pytest
from agntcy.dir_sdk.client import Client, Config
from agntcy.dir_sdk.models import core_v1, search_v1
from google.protobuf import struct_pb2


@pytest.fixture(scope="module")
def client():
    return Client(Config.load_from_env())


def make_records(test, count):
    now = time.time_ns()
    records = []
    for i in range(count):
        data = struct_pb2.Struct()
        data.update(
            {
                "name": f"interop/py-{test}-{now}-{i}",
                "version": "v1.2.3",
                "schema_version": "0.8.0",
                "description": "Made by the interop suite <&>, ünïcode",
                "authors": ["Interop <interop@example.org>"],
                "created_at": "2025-03-19T17:06:37Z",
                "skills": [{"name": "natural_language_processing/text_completion", "id": 10201}],
                "domains": [{"name": "technology/networking", "id": 103}],
                "locators": [{"type": "docker_image", "url": "https://registry.example.org/agent"}],
                "modules": [],
            }
        )
        records.append(core_v1.Record(data=data))
    return records


def by_name(record):
    return [
        search_v1.RecordQuery(
            type=search_v1.RECORD_QUERY_TYPE_NAME, value=record.data["name"]
        )
    ]


def test_push_pull_lookup(client):
    records = make_records("store", 5)
    refs = client.push(records)
    assert [len(r.cid) for r in refs] == [59] * 5
    assert client.push(records) == refs
    assert client.pull(refs) == records
    metas = client.lookup(refs)
    assert [m.cid for m in metas] == [r.cid for r in refs]
    assert {m.schema_version for m in metas} == {"0.8.0"}


def test_search(client):
    record = make_records("search", 1)[0]
    ref = client.push([record])[0]
    hits = client.search_cids(search_v1.SearchCIDsRequest(queries=by_name(record)))
    assert [h.record_cid for h in hits] == [ref.cid]
    found = client.search_records(search_v1.SearchRecordsRequest(queries=by_name(record)))
    assert [f.record for f in found] == [record]


def test_delete(client):
    record = make_records("delete", 1)[0]
    ref = client.push([record])[0]
    client.delete([ref])
    with pytest.raises((RuntimeError, grpc.RpcError)) as gone:
        client.pull([ref])
    assert "record not found" in repr(gone.value) + repr(gone.value.__cause__)
    assert not client.search_cids(search_v1.SearchCIDsRequest(queries=by_name(record)))
