"""Values that a user of the shipped files would give."""

import pytest

DIGEST = "ab" * 32


@pytest.fixture(scope="session")
def values() -> dict[str, str]:
    """Name -> value for every `${BURNISH_…}` under clusters/."""
    return {
        "BURNISH_IMAGE": f"registry.example.com/burnish@sha256:{DIGEST}",
        "BURNISH_BASE_IMAGE": f"python@sha256:{DIGEST}",
        "BURNISH_RECIPE": "tiny",
        "BURNISH_STORAGE_CLASS": "shared",
        "BURNISH_SPOT_LABEL": "example.com/capacity",
        "BURNISH_SPOT_VALUE": "spot",
        "BURNISH_MONITORING_NAMESPACE": "monitoring",
        "BURNISH_CLIENT_NAMESPACE": "ingress",
        "BURNISH_HOST": "refine.example.com",
        "BURNISH_REGION": "eu-central-1",
        "BURNISH_AMI": "ami-0123456789abcdef0",
        "BURNISH_FILE_SYSTEM": "fs-0123456789abcdef0",
        "BURNISH_SECURITY_GROUP": "sg-0123456789abcdef0",
    }
