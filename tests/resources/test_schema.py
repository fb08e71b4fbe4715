from __future__ import annotations

import numpy as np
import pytest

import cocoindex as coco
from cocoindex.core.serde import deserialize, serialize
from cocoindex.resources.schema import (
    MultiVectorSchema,
    MultiVectorSchemaProvider,
    VectorSchema,
    VectorSchemaProvider,
    get_multi_vector_schema,
    get_vector_schema,
)


@pytest.mark.parametrize(
    "schema",
    [
        VectorSchema(384),
        VectorSchema(size=384),
        VectorSchema(np.float32, 384),
        VectorSchema("float32", 384),
        VectorSchema(dtype=np.dtype("float32"), size=384),
    ],
)
def test_all_spellings_of_one_schema(schema):
    assert schema == VectorSchema(np.dtype(np.float32), 384)
    assert (schema.dtype, schema.size) == (np.dtype("float32"), 384)
    assert coco.memo_fingerprint(schema) == coco.memo_fingerprint(VectorSchema(384))


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((0,), ValueError),
        ((np.float32, -1), ValueError),
        ((str, 3), ValueError),
        (("no dtype", 3), ValueError),
        ((np.complex64, 3), ValueError),
        ((), TypeError),
        ((np.float32,), TypeError),
        ((np.float32, True), TypeError),
        ((np.float32, 3.0), TypeError),
    ],
)
def test_what_is_no_schema(args, error):
    with pytest.raises(error):
        VectorSchema(*args)


def test_different_schemas_are_different():
    schemas = [VectorSchema(3), VectorSchema(4), VectorSchema(np.float16, 3)]
    assert len({coco.memo_fingerprint(schema) for schema in schemas}) == 3


async def test_a_schema_provides_itself():
    schema = VectorSchema(3)
    assert isinstance(schema, VectorSchemaProvider)
    assert await get_vector_schema(schema) == schema
    assert await get_multi_vector_schema(schema) is None
    multi = MultiVectorSchema(schema)
    assert isinstance(multi, MultiVectorSchemaProvider)
    assert await get_multi_vector_schema(multi) == multi
    assert await get_vector_schema(multi) is None


@pytest.mark.parametrize("value", [None, 5, "x", VectorSchema, object()])
async def test_other_things_provide_none(value):
    assert await get_vector_schema(value) is None
    assert await get_multi_vector_schema(value) is None


def test_a_schema_survives_the_store():
    schema = VectorSchema(np.float16, 3)
    assert deserialize(serialize(schema), VectorSchema) == schema
    multi = MultiVectorSchema(schema)
    assert deserialize(serialize(multi), MultiVectorSchema) == multi
