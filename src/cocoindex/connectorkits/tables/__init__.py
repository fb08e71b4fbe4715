"""What table-like targets share: a connector adds a dialect, a type table and its options."""

from cocoindex.connectorkits.rows import key_part
from cocoindex.connectorkits.tables.actions import TableAction
from cocoindex.connectorkits.tables.attachment_kind import AttachmentKind
from cocoindex.connectorkits.tables.dialect import Dialect
from cocoindex.connectorkits.tables.handlers import RowHandler, TableHandler
from cocoindex.connectorkits.tables.model import (
    Existing,
    ExistingColumn,
    Key,
    Layout,
    LayoutColumn,
    Main,
    Part,
    RowAction,
    Table,
    TableRecord,
    TableSpec,
)
from cocoindex.connectorkits.tables.operations import (
    AddColumn,
    ChangeColumn,
    CreateTable,
    DropColumn,
    DropTable,
    Operation,
    SetMarker,
)
from cocoindex.connectorkits.tables.schema import ColumnDef, TableSchema
from cocoindex.connectorkits.tables.target import TableOptions, TableTarget, table_state

__all__ = [
    "AddColumn",
    "AttachmentKind",
    "ChangeColumn",
    "ColumnDef",
    "CreateTable",
    "Dialect",
    "DropColumn",
    "DropTable",
    "Existing",
    "ExistingColumn",
    "Key",
    "Layout",
    "LayoutColumn",
    "Main",
    "Operation",
    "Part",
    "RowAction",
    "RowHandler",
    "SetMarker",
    "Table",
    "TableAction",
    "TableHandler",
    "TableOptions",
    "TableRecord",
    "TableSchema",
    "TableSpec",
    "TableTarget",
    "key_part",
    "table_state",
]
