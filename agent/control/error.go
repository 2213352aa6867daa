package control

import (
	"errors"
	"net/http"
)

// Error is what reaches a person: a stable code for programs, one plain
// sentence, and one thing to do.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// The codes of [Error]. Additive; a face treats an unknown code as CodeFailed.
const (
	CodeFailed     = "failed"     // it was tried and did not work
	CodeUsage      = "usage"      // the request itself is wrong
	CodeRefused    = "refused"    // the other side said no
	CodeNotFound   = "not_found"  // no such device, transfer or group
	CodeAway       = "away"       // the device is known but not near
	CodeAmbiguous  = "ambiguous"  // several devices fit the name
	CodeTimeout    = "timeout"    // nobody answered in time
	CodeNoAgent    = "no_agent"   // no agent answers on the socket
	CodePermission = "permission" // this user may not
	CodePartial    = "partial"    // some files failed
	CodeBusy       = "busy"       // the radio or the transfer is busy with something else
	CodeNoRadio    = "no_radio"   // Wi-Fi Direct is not possible here now
	CodeUnreadable = "unreadable" // a file to send cannot be read
	CodeDiskFull   = "disk_full"  // no room here
	CodeInternal   = "internal"   // a defect of ours; the log has it
)

// Error returns the sentence without the hint.
func (e *Error) Error() string { return e.Message }

// Is reports whether target is an [Error] with the same code, so that
// errors.Is(err, &Error{Code: CodeAway}) works.
func (e *Error) Is(target error) bool {
	t, ok := errors.AsType[*Error](target)
	return ok && t.Code == e.Code
}

// Status returns the HTTP status that an error with this code travels with.
func (e *Error) Status() int {
	switch e.Code {
	case CodeUsage, CodeAmbiguous, CodeUnreadable:
		return http.StatusBadRequest
	case CodeNotFound, CodeAway:
		return http.StatusNotFound
	case CodePermission, CodeRefused:
		return http.StatusForbidden
	case CodeTimeout:
		return http.StatusGatewayTimeout
	case CodeBusy, CodeNoRadio:
		return http.StatusConflict
	case CodeDiskFull:
		return http.StatusInsufficientStorage
	default:
		return http.StatusInternalServerError
	}
}

// Exit returns the exit code of the command line for this error's code
// (design: 0 done, 1 failed, 2 usage, 3 refused, 4 not found or away, 5 timed
// out, 6 no agent, 7 not allowed, 8 some files failed).
func (e *Error) Exit() int {
	switch e.Code {
	case CodeUsage, CodeAmbiguous:
		return 2
	case CodeRefused:
		return 3
	case CodeNotFound, CodeAway:
		return 4
	case CodeTimeout:
		return 5
	case CodeNoAgent:
		return 6
	case CodePermission:
		return 7
	case CodePartial:
		return 8
	default:
		return 1
	}
}
