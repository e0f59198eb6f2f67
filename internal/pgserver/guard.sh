# Ends a server once its owner is gone. Standard input is a pipe from the owner, so it
# ends however the owner does. Lines: "pid N" for a postmaster that was started, "pid"
# when it has ended, "done" when the owner has cleaned up itself.
# Arguments: the server's directory, its data directory, "remove" or "keep".
dir=$1 data=$2 end=$3 told=

# What ends everybody at a shutdown must not end us before the owner.
trap '' HUP INT TERM

while read -r word value; do
	case $word in
	pid) told=$value ;;
	done) exit 0 ;;
	esac
done

# A process id can have passed to somebody else: only one whose command line names our
# data directory is ours.
ours() {
	[ -n "$1" ] || return 1
	if [ -r "/proc/$1/cmdline" ]; then
		args=$(tr '\0' ' ' <"/proc/$1/cmdline")
	else
		args=$(ps -o args= -p "$1")
	fi
	case $args in *" $data "* | *" $data") return 0 ;; esac
	return 1
}

# The owner may have died between starting a server and telling us, or in the midst of
# initdb: so look, and remove, until nothing is left to do.
tries=0
while [ $tries -lt 200 ]; do
	tries=$((tries + 1))
	busy=
	for pid in $told $(head -n 1 "$data/postmaster.pid"); do
		if ours "$pid"; then
			busy=1
			if [ $tries -lt 100 ]; then kill -QUIT "$pid"; else kill -KILL "$pid"; fi
		fi
	done
	if [ -z "$busy" ]; then
		[ "$end" = keep ] && exit 0
		rm -rf "$dir"
		[ -d "$dir" ] || exit 0
	fi
	sleep 0.1 || sleep 1 # a fraction is no standard
done
