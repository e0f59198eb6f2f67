package pgserver

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// account is the operating system user that a server runs as.
type account struct {
	name     string
	uid, gid uint32
	switched bool // another user than ours, so files must be handed over
}

// serverAccount is our own user, or, where that is root, which Postgres refuses, one
// without rights.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	accounts := unprivileged()
	if len(accounts) == 0 {
		return account{}, fmt.Errorf("running as root, which Postgres refuses, and there is neither a user postgres nor nobody to run it as")
	}
	return accounts[0], nil
}

// unprivileged lists the users that a server started by root may run as.
func unprivileged() []account {
	var found []account
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil && uid != 0 {
			found = append(found, account{name: name, uid: uint32(uid), gid: uint32(gid), switched: true})
		}
	}
	return found
}

// give hands a file or directory to the server's user.
func (a account) give(paths ...string) error {
	if !a.switched {
		return nil
	}
	for _, p := range paths {
		if err := os.Chown(p, int(a.uid), int(a.gid)); err != nil {
			return err
		}
	}
	return nil
}

// canReach reports whether the server's user may pass through every directory down to
// and including dir. It looks at the bits for others only: a refusal may be too strict,
// an approval holds.
func (a account) canReach(dir string) error {
	if !a.switched {
		return nil
	}
	for p := dir; ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 && ownerOf(info) != int(a.uid) {
			return fmt.Errorf("user %s, as whom the server runs, cannot enter %s", a.name, p)
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}

// canCleanUpIn reports whether the server's user, as whom the guard runs, may reach base
// and remove a directory of its own from it.
func (a account) canCleanUpIn(base string) error {
	if err := a.canReach(base); err != nil || !a.switched {
		return err
	}
	info, err := os.Stat(base)
	if err != nil {
		return err
	}
	if info.Mode()&0o002 == 0 && ownerOf(info) != int(a.uid) {
		return fmt.Errorf("user %s, as whom the server runs, cannot write in %s", a.name, base)
	}
	return nil
}
