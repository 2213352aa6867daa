package pairing

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// maxCodeFile bounds what is read of a file with a setup code, in bytes.
const maxCodeFile = 256

// ErrCodeFile is returned for a file that is no setup code, or that others can read or write; the text says which and what,
// and never quotes it.
var ErrCodeFile = errors.New("pairing: not a file with a setup code")

// ReadSetupCode reads the setup code that is the first line of a file. The file is refused unless it is a regular one, of root or of
// whoever runs this, and closed to others; a link is not followed. The error wraps [ErrCodeFile], or fs.ErrNotExist when
// there is none.
func ReadSetupCode(path string) (SetupCode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return SetupCode{}, err
	}
	if err != nil {
		return SetupCode{}, fmt.Errorf("%w: %w", ErrCodeFile, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return SetupCode{}, fmt.Errorf("%w: %w", ErrCodeFile, err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return SetupCode{}, fmt.Errorf("%w: %s is not a regular file", ErrCodeFile, path)
	case !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return SetupCode{}, fmt.Errorf("%w: %s belongs to somebody else", ErrCodeFile, path)
	case info.Mode().Perm()&0o027 != 0: // systemd's credentials may be readable by their group
		return SetupCode{}, fmt.Errorf("%w: others can read or write %s; chmod 600 it", ErrCodeFile, path)
	}
	return codeIn(f, path)
}

// codeIn reads the setup code that is the first line of r.
func codeIn(r io.Reader, name string) (SetupCode, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxCodeFile))
	if err != nil {
		return SetupCode{}, fmt.Errorf("%w: %w", ErrCodeFile, err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	c, err := ParseSetupCode(line)
	if err != nil {
		return SetupCode{}, fmt.Errorf("%w: %s: %w", ErrCodeFile, name, err)
	}
	return c, nil
}

// Provision makes the code in the file at path this device's setup code, once: the same file at a later start changes nothing,
// neither a code that was made since nor a lock, and may be gone then. The error wraps [ErrCodeFile], fs.ErrNotExist when no code was
// ever given, or what the disk said.
func (e *Engine) Provision(path string) error {
	c, err := ReadSetupCode(path)
	if errors.Is(err, fs.ErrNotExist) && e.keeper.provisioned() {
		return nil
	}
	if err != nil {
		return err
	}
	return e.Give(c)
}

// Give makes c this device's setup code, unless it was given before. The error is what the disk said.
func (e *Engine) Give(c SetupCode) error {
	taken, err := e.keeper.provision(c)
	if taken {
		e.log.Info("Setup code was taken from a file")
	}
	return err
}

func (k *keeper) provisioned() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept.Given != ""
}

// provision takes a code that was not given before.
func (k *keeper) provision(c SetupCode) (taken bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept.Given == c.Text() {
		return false, nil
	}
	return true, k.renew(kept{Code: c.Text(), Given: c.Text()})
}
