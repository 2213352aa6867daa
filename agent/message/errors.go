package message

import (
	"errors"
	"net/http"
)

// A sentinel is an error with the stable word that stands for it on the wire, in the store and in the local API.
type sentinel struct{ code, text string }

func (s *sentinel) Error() string { return "message: " + s.text }

// The errors of messages. [Code] gives their words, in the comments here.
var (
	ErrEmpty       error = &sentinel{"empty", "the message is empty"}                      // empty
	ErrTooLong     error = &sentinel{"too_long", "the message is longer than 32768 bytes"} // too_long
	ErrNotText     error = &sentinel{"not_text", "the message is not UTF-8 text"}          // not_text: bytes that are not UTF-8, or NUL
	ErrNobody      error = &sentinel{"nobody", "the message is for nobody"}                // nobody
	ErrTooMany     error = &sentinel{"too_many", "the message is for too many devices"}    // too_many
	ErrFull        error = &sentinel{"full", "the outbox is full"}                         // full: for that device, or in all
	ErrRefused     error = &sentinel{"refused", "refused by the other side"}               // refused: it does not trust this device
	ErrCancelled   error = &sentinel{"cancelled", "cancelled"}                             // cancelled: by the person here
	ErrUntrusted   error = &sentinel{"untrusted", "the device is not trusted"}             // untrusted: not any more
	ErrUnsupported error = &sentinel{"unsupported", "the other side knows no messages"}    // unsupported: an older nigh
	ErrProtocol    error = &sentinel{"protocol", "the message breaks the protocol"}        // protocol
	ErrBusy        error = &sentinel{"busy", "too many messages at once"}                  // busy: tried again
	ErrPeerGone    error = &sentinel{"peer_gone", "the device does not answer"}            // peer_gone: tried again
	ErrNotFound    error = &sentinel{"not_found", "no such message"}                       // not_found
	ErrState       error = &sentinel{"state", "the message waits for nobody"}              // state: nothing to cancel
	ErrInternal    error = &sentinel{"internal", "the message could not be kept"}          // internal: disk full, say; tried again
	errRunning     error = errors.New("message: Run was called twice or after its end")    // a mistake of ours
	httpStatus           = map[error]int{ErrRefused: http.StatusForbidden, ErrBusy: http.StatusTooManyRequests, ErrTooLong: http.StatusRequestEntityTooLarge, ErrInternal: http.StatusInternalServerError}
)

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
