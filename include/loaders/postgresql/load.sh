#!/usr/bin/env bash
# Loads all JSON Lines data files below a folder, plain, .gz or .zst, with psql alone:  bash load.sh DSN FOLDER
# Safe to repeat; it reads all files each time. python/postgresql.py reads the new and changed ones only, and Parquet.
set -euo pipefail
if [ $# -ne 2 ]; then
  echo "usage: bash load.sh DSN FOLDER" >&2
  exit 1
fi
dsn=$1 folder=$2

wanted=(-type f \( -name '*.json' -o -name '*.json.gz' -o -name '*.json.zst' \)
  ! -path '*/receipts/work-orders-*' ! -path '*/manifests/work-orders-*'
  ! -name 'data-export-check*' ! -name '.data-export-*' ! -name '*([0-9]*).*')

parquet=$(find "$folder" -type f -path '*work-orders-*.parquet')
if [ -n "$parquet" ]; then
  echo "load.sh does not read Parquet, use python/postgresql.py: ${parquet%%$'\n'*}" >&2
  [ -n "$(find "$folder" "${wanted[@]}")" ] || exit 3
fi

find "$folder" "${wanted[@]}" -print0 |
  while IFS= read -r -d '' file; do
    case $file in
      *.gz) read=(gzip -dc "$file") ;;
      *.zst) read=(zstd -dcq --long=31 "$file") ;;
      *) read=(cat "$file") ;;
    esac
    # No control character is ever in a line of JSON, so none of them needs an escape.
    "${read[@]}" | psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --single-transaction --output /dev/null "$dsn" \
      --set file="$file" \
      --command "LOCK TABLE delivered_line IN ACCESS EXCLUSIVE MODE" \
      --command "TRUNCATE delivered_line" \
      --command "\\copy delivered_line FROM pstdin WITH (FORMAT csv, DELIMITER E'\\t', QUOTE E'\\x01', ESCAPE E'\\x01', ENCODING 'UTF8')" \
      --file <(printf "SELECT load_delivered(:'file');\n")
  done
