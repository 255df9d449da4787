//! OASF rules: validity and labels of a record.
