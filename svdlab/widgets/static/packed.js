// The table as it travels from Python (svdlab/widgets/feed.py, pack_table): names once, values by position.

/** The rows that createViewer takes. */
function unpackTable({ settings, metrics, rows }) {
  return rows.map(([cell, status, error, values, numbers]) => ({
    cell,
    status,
    error,
    settings: Object.fromEntries(settings.map((name, k) => [name, values[k]])),
    metrics: Object.fromEntries(metrics.map((name, k) => [name, numbers[k]])),
  }));
}

/** Exchange rows of the packed table for newer ones, in place: nothing of it is to travel back to the kernel. */
function mergeRows(table, rows) {
  const newer = new Map(rows.map((row) => [row[0], row]));
  table.rows.forEach((row, k) => (table.rows[k] = newer.get(row[0]) ?? row));
}
