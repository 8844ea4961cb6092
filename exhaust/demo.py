async def demo(broker: str, *, as_json: bool) -> int:
    return 0
