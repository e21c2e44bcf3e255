"""What a file of data may take of the machine before it is refused. Nobody turns these: no conversation needs more."""

# A conversation is never this long; more is a mistake or an attack, refused before it fills the memory.
MAX_LINE_BYTES = 4 * 2**20
MAX_ARRAY_BYTES = 32 * 2**20
MAX_DATA_BYTES = 512 * 2**20
MAX_LINES = 2_000_000
MAX_COLUMNS = 1_000
# What a value is made of takes far more memory than bytes in the file: so much in all, and so much more with each row.
MAX_PARTS, MAX_PARTS_A_ROW = 100_000, 1_000
MAX_ARRAY_PARTS = 2_000_000
