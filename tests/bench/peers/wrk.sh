#!/bin/sh
# wrk out of its Debian package, unpacked beside this file: the library that it needs is not where the linker looks.
here=$(dirname "$0")
for folder in "$here"/usr/lib/*/; do
  LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$here/usr/bin/wrk" "$@"
