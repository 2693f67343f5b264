"""What the description of the calls allows, and much that it does not, gets an answer and no server error."""

from collections import Counter

import pytest
from browsing import served
from hypothesis import HealthCheck, Phase, given, seed, settings

schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = 6  # for each call, allowed and not allowed, as a participant and as the researcher


def test_no_call_that_the_description_allows_or_forbids_ends_in_a_server_error(new_study):
    import requests
    from schemathesis import GenerationMode

    questions = [{"id": "age", "kind": "number", "label": {"en": "Your age?"}}]
    folder, dashboard = new_study(trials=2, questions=questions)
    told: Counter[tuple[str, int]] = Counter()
    with served(folder) as address, requests.Session() as session:
        schema = schemathesis.openapi.from_url(f"{address}api/openapi.json")
        consents = [one["id"] for one in session.get(f"{address}api/study").json()["consent"]]
        body = {"language": "en", "consents": consents, "age_confirmed": True}
        token = session.post(f"{address}api/participants", json=body).json()["token"]

        def try_out(operation, mode, bearer):
            @seed(0)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def one(case):
                case.headers = {**(case.headers or {}), "Authorization": f"Bearer {bearer}"}
                response = case.call(session=session)
                told[operation.label, response.status_code] += 1
                assert response.status_code < 500, (operation.label, case.as_curl_command())
                documented = {str(code) for code in operation.definition.raw["responses"]} | {"405", "414"}
                assert str(response.status_code) in documented, (operation.label, response.status_code)
                if response.status_code >= 400:
                    assert isinstance(response.json()["error"], str)

            one()

        operations = [found.ok() for found in schema.get_all_operations()]
        for operation in operations:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                if mode is GenerationMode.NEGATIVE and not operation.body:
                    continue  # any text is allowed as a part of an address
                try_out(operation, mode, dashboard if "/dashboard" in operation.path else token)
        assert session.get(f"{address}api/study").json()["trials"] == 2  # still there
    labels = {label for label, _ in told}
    assert labels == {operation.label for operation in operations}
    assert len(labels) >= 15
    assert sum(code < 400 for _, code in told) >= 8, told
