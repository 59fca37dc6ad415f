#!/bin/sh
# Copy what the image consists of from this Debian system into a folder: Python without documents, manuals and pip, the
# libraries that Polycast needs, certificates, time zones, and a shell for the commands of the configuration.
set -eu
root=$1
version=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')

mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/etc" "$root/tmp"
for name in bin sbin lib lib64; do ln -sfn "usr/$name" "$root/$name"; done
chmod 1777 "$root/tmp"

# The files of these packages, whatever depends on them or not. Libraries whose names tell their version are found below.
for package in "python$version-minimal" "libpython$version-minimal" "libpython$version-stdlib" python3-minimal busybox \
    media-types netbase tzdata libc6; do
    dpkg -L "$package"
done | grep -Ev '^/usr/(share/(doc|man|locale|lintian|bug|binfmts|applications|pixmaps|perl5|python3)|include|lib/.*/gconv)/' \
    | grep -Ev '/(idlelib|lib2to3|turtledemo|pydoc_data|ensurepip|test|__pycache__)/|/zoneinfo/(right|posix)/' \
    | while read -r file; do
        if [ -f "$file" ] || [ -h "$file" ]; then echo "${file#/}"; fi
    done > "$root/files"

# The shared libraries of Python's modules and of Polycast.
find "/usr/lib/python$version" /opt/polycast /usr/bin/busybox /bin/busybox -name '*.so*' -o -name busybox 2>/dev/null \
    | xargs ldd 2>/dev/null | awk '$3 ~ "^/(usr/)?lib" { print $3 }' | sort -u | while read -r library; do
        for file in "$library" "$(readlink -f "$library")"; do echo "${file#/}"; done
    done >> "$root/files"

# Modules for terminals and for networks of the nineties bring large libraries.
grep -Ev '/(readline|_curses|_curses_panel|nis|ossaudiodev|_dbm|_gdbm)\.cpython|lib(readline|ncurses|tinfo|panel|nsl|tirpc|krb5|k5crypto|krb5support|gssapi_krb5|keyutils|com_err|db-5)' \
    "$root/files" | sort -u | tar --create --no-recursion --file - --directory / --files-from - \
    | tar --extract --file - --directory "$root" --keep-directory-symlink
rm "$root/files"

mkdir -p "$root/etc/ssl/certs"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
mkdir -p "$root/usr/lib/ssl" && ln -sfn /etc/ssl/certs "$root/usr/lib/ssl/certs"
ln -sfn certs/ca-certificates.crt "$root/etc/ssl/cert.pem"
ln -sfn /etc/ssl/cert.pem "$root/usr/lib/ssl/cert.pem"
cp /etc/os-release "$root/etc/os-release"
printf 'hosts: files dns\n' > "$root/etc/nsswitch.conf"
printf 'root:x:0:0:root:/root:/bin/sh\npolycast:x:10001:10001::/nonexistent:/usr/sbin/nologin\n' > "$root/etc/passwd"
printf 'root:x:0:\npolycast:x:10001:\n' > "$root/etc/group"
for applet in $("$root/usr/bin/busybox" --list); do
    [ -e "$root/usr/bin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done
mkdir -p "$root/opt" && cp -a /opt/polycast "$root/opt/"
