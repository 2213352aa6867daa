package transfer

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"nigh/agent/receive"
)

// A sentinel is an error with the stable word that stands for it on the wire, in the store and in the local API.
type sentinel struct{ code, text string }

func (s *sentinel) Error() string { return "transfer: " + s.text }

// The errors of transfers. [Code] gives their words, in the comments here.
var (
	ErrNoSpace    error = &sentinel{"no_space", "not enough free space"}                   // no_space: known before a byte was sent
	ErrDiskFull   error = &sentinel{"disk_full", "the disk became full"}                   // disk_full: while writing; can be resumed
	ErrChanged    error = &sentinel{"changed", "changed on the other side"}                // changed: the source is not what was offered
	ErrUnreadable error = &sentinel{"unreadable", "cannot be read"}                        // unreadable: the source cannot be opened or read
	ErrRefused    error = &sentinel{"refused", "refused by the other side"}                // refused
	ErrCancelled  error = &sentinel{"cancelled", "cancelled"}                              // cancelled: by one of the two sides
	ErrVerify     error = &sentinel{"verify", "the other side sent wrong bytes twice"}     // verify
	ErrProtocol   error = &sentinel{"protocol", "the other side broke the protocol"}       // protocol
	ErrPeerGone   error = &sentinel{"peer_gone", "the other side is away"}                 // peer_gone: goes on by itself
	ErrPaused     error = &sentinel{"paused", "paused by the other side"}                  // paused
	ErrWithdrawn  error = &sentinel{"withdrawn", "the other side no longer has the offer"} // withdrawn
	ErrTooLarge   error = &sentinel{"too_large", "too large"}                              // too_large: over a bound of limits.go
	ErrOutbox     error = &sentinel{"outbox_full", "too much waits to be sent"}            // outbox_full
	ErrVanished   error = &sentinel{"vanished", "no longer there"}                         // vanished: gone before it was offered
	ErrBusy       error = &sentinel{"busy", "too many offers wait"}                        // busy
	ErrExists     error = &sentinel{"exists", "a file of this name is already there"}      // exists: by policy
	ErrName       error = &sentinel{"name", "a name that this disk does not take"}         // name
	ErrFileSize   error = &sentinel{"file_size", "larger than a file on this disk may be"} // file_size
	ErrFolder     error = &sentinel{"folder", "the folder to receive into cannot be used"} // folder
	ErrSomeFailed error = &sentinel{"some_failed", "some files failed"}                    // some_failed: the rest is there
	ErrNothing    error = &sentinel{"nothing", "nothing to send"}                          // nothing
	ErrNotRegular error = &sentinel{"not_regular", "not a regular file or folder"}         // not_regular
	ErrNotFound   error = &sentinel{"not_found", "no such transfer"}                       // not_found
	ErrState      error = &sentinel{"state", "not possible in this state"}                 // state
	ErrInternal   error = &sentinel{"internal", "internal error"}                          // internal
)

var byCode = map[string]error{}

func init() {
	for _, err := range []error{ErrNoSpace, ErrDiskFull, ErrChanged, ErrUnreadable, ErrRefused, ErrCancelled, ErrVerify, ErrProtocol,
		ErrPeerGone, ErrPaused, ErrWithdrawn, ErrTooLarge, ErrOutbox, ErrVanished, ErrBusy, ErrExists, ErrName, ErrFileSize, ErrFolder, ErrSomeFailed, ErrNothing,
		ErrNotRegular, ErrNotFound, ErrState, ErrInternal} {
		byCode[Code(err)] = err
	}
}

// Code returns the stable word of an error: that of the sentinel it wraps, "" for nil, "internal" for any other.
func Code(err error) string {
	if err == nil {
		return ""
	}
	if s, ok := errors.AsType[*sentinel](err); ok {
		return s.code
	}
	return "internal"
}

// fromCode returns the sentinel of a peer's word; a word that is not one of ours tells only that the peer did not want to.
func fromCode(code string) error {
	if err := byCode[code]; err != nil {
		return err
	}
	return ErrProtocol
}

// diskError turns an error of writing into a sentinel. fatal means that hardly another file will fare better.
func diskError(err error) (_ error, fatal bool) {
	switch {
	case err == nil:
		return nil, false
	case receive.IsFull(err):
		return fmt.Errorf("%w: %w", ErrDiskFull, err), true
	case errors.Is(err, receive.ErrName), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EILSEQ):
		return fmt.Errorf("%w: %w", ErrName, err), false
	case errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%w: %w", ErrFileSize, err), false
	case errors.Is(err, fs.ErrExist), errors.Is(err, receive.ErrExists):
		return fmt.Errorf("%w: %w", ErrExists, err), false
	}
	return fmt.Errorf("%w: %w", ErrFolder, err), true
}
