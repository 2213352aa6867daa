package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"nigh/agent/private"
)

// The files in the state folder.
const (
	DatabaseFile = "nigh.db"
	LockFile     = "lock"
)

// busyWait is how long Open waits for a program that has the database itself
// open (a backup, bbolt's own tool); another agent is found by the lock at once.
const busyWait = time.Second

// ErrLocked is returned by [Open] when another agent uses the state folder. Find
// it with errors.AsType.
type ErrLocked struct {
	// Dir is the state folder.
	Dir string
	// PID is the process that holds it, 0 when it is not known.
	PID int
}

// Error says who holds the folder.
func (e ErrLocked) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("the state folder %s is in use by another agent", e.Dir)
	}
	return fmt.Sprintf("the state folder %s is in use by another agent (PID %d)", e.Dir, e.PID)
}

// ErrClosed is returned by every method of a closed store.
var ErrClosed = errors.New("store: closed")

// Store is the open database. Close it.
type Store struct {
	db       *bolt.DB
	lock     *os.File
	setAside string
	reason   error
}

// Open opens the database in the folder dir; it makes the folder (mode 0700) and
// an empty database when there is none. It does not wait for another agent: it
// returns an [ErrLocked] that names it. A damaged database is set aside; see
// [Store.SetAside]. Errors of the system (no permission, full disk) are returned
// as they are and set nothing aside.
func Open(dir string) (*Store, error) {
	if err := private.Dir(dir); err != nil {
		return nil, fmt.Errorf("store: state folder: %w", err)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{lock: lock}
	path := filepath.Join(dir, DatabaseFile)
	s.db, err = openWhole(path)
	if damage, ok := errors.AsType[damageError](err); ok {
		s.reason = damage
		if s.setAside, err = setAside(dir, path); err == nil {
			s.db, err = openWhole(path)
		}
	}
	if err != nil {
		_ = lock.Close()
		if errors.Is(err, bolterrors.ErrTimeout) {
			return nil, ErrLocked{Dir: dir}
		}
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	s.Release() // all of it was read
	return s, nil
}

// Close waits for running transactions, closes the database and lets the next
// agent have the folder.
func (s *Store) Close() error {
	err := s.db.Close()
	// The lock file stays: removing it would let two agents lock two files.
	return errors.Join(err, s.lock.Close())
}

// SetAside returns the path to which [Open] moved a damaged database, and why;
// "" and nil when the database was whole or new.
func (s *Store) SetAside() (path string, reason error) { return s.setAside, s.reason }

// takeLock locks the folder for this process with flock, which ends with the
// process however it ends; the PID in the file is only there to be shown.
func takeLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, LockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: lock: %w", err)
	}
	if err := lockFile(f, dir); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func lockFile(f *os.File, dir string) error {
	if _, err := private.File(f); err != nil {
		return fmt.Errorf("store: lock: %w", err)
	}
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		var text [32]byte
		n, _ := f.ReadAt(text[:], 0)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
		return ErrLocked{Dir: dir, PID: max(pid, 0)}
	}
	if err != nil {
		return fmt.Errorf("store: lock %s: %w", f.Name(), err)
	}
	// On a full disk the lock still holds; only its text is missing then.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	return nil
}

// damageError says what is wrong with the bytes of a database.
type damageError struct{ what any }

func (e damageError) Error() string { return fmt.Sprintf("damaged: %v", e.what) }

// openWhole opens the database and reads all of it once, because bbolt finds
// damage only when it meets it, and then by a panic or a fault.
func openWhole(path string) (db *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			// The damaged database stays mapped: closing it may fault again.
			db, err = nil, damageError{r}
		}
	}()
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		// What a power cut may leave: bbolt would take it for one that is to be made.
		return nil, damageError{"nothing is left of it"}
	}
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: busyWait, FreelistType: bolt.FreelistMapType})
	if err != nil {
		if _, system := errors.AsType[syscall.Errno](err); system || errors.Is(err, bolterrors.ErrTimeout) {
			return nil, err
		}
		return nil, damageError{err}
	}
	if err := db.View(verify); err != nil {
		_ = db.Close()
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, private.SyncDir(filepath.Dir(path))
}

// verify reads every value and checks the pages; it returns a damageError or
// panics.
func verify(tx *bolt.Tx) error {
	info, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return damageError{fmt.Sprintf("%d bytes of %d are left", info.Size(), tx.Size())}
	}
	err = tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if !json.Valid(v) {
				return damageError{fmt.Sprintf("bucket %q holds a broken value", name)}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for problem := range tx.Check() { // to its end: it owns a goroutine
		if err == nil {
			err = damageError{problem}
		}
	}
	return err
}

// setAside renames the database to the first free damaged-N.
func setAside(dir, path string) (string, error) {
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.damaged-%d", path, n)
		err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, aside, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
			// A file system without RENAME_NOREPLACE; the lock keeps others out.
			if _, err = os.Lstat(aside); err == nil {
				continue
			} else if errors.Is(err, fs.ErrNotExist) {
				err = os.Rename(path, aside)
			}
		}
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("set the damaged database aside: %w", err)
		}
		return aside, private.SyncDir(dir)
	}
}
