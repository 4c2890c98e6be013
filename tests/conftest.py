import pytest


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run every async test on the loop the product runs on."""
    return "asyncio", {"use_uvloop": True}
