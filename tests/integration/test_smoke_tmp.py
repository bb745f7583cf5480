import uuid
def test_a(system):
    s = system.app.signature("fermata.sonic.remaster", args=(str(uuid.uuid4()),), kwargs={"mv": "chirp-v5"}, queue="fermata")
    n = system.app.signature("test.note", args=("k",), queue="fermata")
    r = (s | n).apply_async()
    print(r.get(timeout=10))
