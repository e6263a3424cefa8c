# Prints the text of one key of the JSON object on standard input: awk -v key=prompt -f json.awk
# Exit code 1 if the object has no such key with a text. Needs LC_ALL=C: it works on bytes.

BEGIN {
  depth = 0      # how many brackets are open
  text = 0       # inside a string
  is_key = 0     # the string is a key of the object itself
  expects_key = 0
  name = ""      # the last key of the object itself
  wanted = 0     # the string is the one to print
  escape = ""    # an escape sequence as far as it was read
  high = 0       # the first half of a surrogate pair
  found = 0
  # What no page can hold is left out.
  for (i = 1; i < 32; i++) if (i != 9 && i != 10) controls = controls byte(i)
  controls = controls byte(127)
}

function put(bytes) {
  if (index(controls, bytes)) return
  if (wanted) printf "%s", bytes
  else if (is_key && length(name) < 200) name = name bytes
}

function byte(number) { return sprintf("%c", number) }

# A character, as UTF-8. NUL is in no text file: it becomes the sign for what cannot be shown.
function character(code) {
  if (code == 0) code = 65533
  if (code < 128) return byte(code)
  if (code < 2048) return byte(192 + int(code / 64)) byte(128 + code % 64)
  if (code < 65536) return byte(224 + int(code / 4096)) byte(128 + int(code / 64) % 64) byte(128 + code % 64)
  return byte(240 + int(code / 262144)) byte(128 + int(code / 4096) % 64) byte(128 + int(code / 64) % 64) byte(128 + code % 64)
}

function hexadecimal(digits,  value, i) {
  for (i = 1; i <= 4; i++) value = value * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
  return value
}

# Half a pair that the other half does not follow.
function alone() {
  if (high) put(character(65533))
  high = 0
}

function unicode(code) {
  if (code >= 55296 && code < 56320) { alone(); high = code; return }
  if (code >= 56320 && code < 57344) {
    if (!high) { put(character(65533)); return }
    code = 65536 + (high - 55296) * 1024 + code - 56320
    high = 0
  }
  alone()
  put(character(code))
}

function escaped(c,  at) {
  escape = escape c
  if (substr(escape, 1, 1) == "u") {
    if (length(escape) == 5) { unicode(hexadecimal(substr(escape, 2))); escape = "" }
    return
  }
  alone()
  at = index("bfnrt", c)
  put(at ? substr("\b\f\n\r\t", at, 1) : c)
  escape = ""
}

function take(c) {
  if (backslash) { escaped(c); backslash = (escape != ""); return }
  if (text) {
    if (c == "\\") backslash = 1
    else if (c == "\"") {
      alone()
      text = 0
      if (wanted) { found = 1; exit }
    } else { alone(); put(c) }
    return
  }
  if (c == "\"") {
    text = 1
    is_key = (depth == 1 && expects_key)
    if (is_key) name = ""
    wanted = (depth == 1 && !expects_key && name == key)
  } else if (c == "{" || c == "[") { depth++; expects_key = (depth == 1 && c == "{") }
  else if (c == "}" || c == "]") depth--
  else if (c == ":" && depth == 1) expects_key = 0
  else if (c == "," && depth == 1) { expects_key = 1; name = "" }
}

{
  # Piece by piece: to find a character late in a long line takes some awks long.
  for (from = 1; from <= length($0); from += 500) {
    piece = substr($0, from, 500)
    size = length(piece)
    for (i = 1; i <= size; i++) take(substr(piece, i, 1))
  }
}

END { exit !found }
