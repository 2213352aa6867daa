package share

import (
	"encoding/json"
	"errors"
	"net/http"
)

// A sentinel is an error with the word that stands for it on the wire.
type sentinel struct{ code, text string }

func (s *sentinel) Error() string { return "share: " + s.text }

// The errors of shares that travel, with their words in the comments.
var (
	ErrNotFound    error = &sentinel{"not_found", "no such share, file or folder"}              // not_found
	ErrBusy        error = &sentinel{"busy", "too many requests"}                               // busy
	ErrUnavailable error = &sentinel{"unavailable", "the folder of the share is not there now"} // unavailable
	ErrProtocol    error = &sentinel{"protocol", "the other side broke the protocol"}           // protocol
	ErrTooLarge    error = &sentinel{"too_large", "more than can be sent at once"}              // too_large
	ErrUnreadable  error = &sentinel{"unreadable", "the other side cannot read it"}             // unreadable
	ErrInternal    error = &sentinel{"internal", "internal error"}                              // internal
	ErrAway        error = &sentinel{"away", "the device does not answer"}                      // never sent
)

// The errors of this device's own shares; the text around them says more.
var (
	ErrName    = errors.New("share: this cannot be the name of a share")
	ErrExists  = errors.New("share: that is shared already")
	ErrFull    = errors.New("share: too many shares")
	ErrFolder  = errors.New("share: this cannot be shared")
	ErrUnknown = errors.New("share: no such share")
)

var byCode = map[string]error{}

func init() {
	for _, err := range []error{ErrNotFound, ErrBusy, ErrUnavailable, ErrProtocol, ErrTooLarge, ErrUnreadable, ErrInternal} {
		byCode[code(err)] = err
	}
}

func code(err error) string {
	if s, ok := errors.AsType[*sentinel](err); ok {
		return s.code
	}
	return "internal"
}

// refusal is the body of every answer that is not a success.
type refusal struct {
	Code string `json:"code"`
}

var httpStatus = map[string]int{
	"not_found": http.StatusNotFound, "busy": http.StatusTooManyRequests, "unavailable": http.StatusServiceUnavailable,
	"too_large": http.StatusRequestEntityTooLarge, "unreadable": http.StatusUnprocessableEntity, "internal": http.StatusInternalServerError,
}

func refuse(w http.ResponseWriter, err error) {
	status := httpStatus[code(err)]
	if status == 0 {
		status = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(refusal{code(err)}) // a lost peer is noticed on the connection
}
