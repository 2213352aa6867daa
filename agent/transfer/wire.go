package transfer

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"nigh/agent/content"
	"nigh/agent/identity"
	"nigh/agent/receive"
)

// version is that of the messages in this file.
const version = 1

// An Offer is what a peer wants to send, as it is shown before anyone accepts. All of it is the peer's claim and was checked for
// form only; the numbers, flags and names are compared with the manifest before the first byte is fetched.
type Offer struct {
	Version int    `json:"v"`
	X       string `json:"x"` // the transfer's name between the two: 32 hexadecimal digits, chosen by the sender
	Label   string `json:"label,omitempty"`
	Summary
	Skipped Skipped           `json:"skipped,omitzero"`
	Swarm   string            `json:"swarm,omitempty"` // of what is sent to several devices: 32 hexadecimal digits that all of them and nobody else are told
	Peer    identity.DeviceID `json:"-"`               // who offers, as the session proved
}

// check returns an error wrapping [ErrProtocol], [ErrTooLarge] or receive.ErrName.
func (o *Offer) check() error {
	if o.Version != version {
		return fmt.Errorf("%w: offer of version %d", ErrProtocol, o.Version)
	}
	if !validX(o.X) {
		return fmt.Errorf("%w: transfer name", ErrProtocol)
	}
	if o.Swarm != "" && !validX(o.Swarm) {
		return fmt.Errorf("%w: swarm", ErrProtocol)
	}
	if o.Files < 0 || o.Dirs < 0 || o.Bytes < 0 || o.Size <= 0 || o.Tops < 1 || o.Root.IsZero() {
		return fmt.Errorf("%w: offer without or with negative numbers", ErrProtocol)
	}
	if o.Files > maxEntries || o.Dirs > maxEntries || o.entries() > maxEntries || o.Bytes > maxTotal || o.Size > maxManifest {
		return fmt.Errorf("%w: offer of %d entries, %d bytes, %d bytes of manifest", ErrTooLarge, o.entries(), o.Bytes, o.Size)
	}
	if o.Tops > o.entries() || len(o.Names) != min(o.Tops, maxTopNames) {
		return fmt.Errorf("%w: offer of %d names shows %d", ErrProtocol, o.Tops, len(o.Names))
	}
	for _, name := range o.Names {
		if err := receive.CheckName(name); err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
	}
	if len(o.Label) > maxLabel || !utf8.ValidString(o.Label) {
		return fmt.Errorf("%w: label", ErrProtocol)
	}
	s := &o.Skipped
	if s.Links < 0 || s.Special < 0 || s.Names < 0 || s.Unreadable < 0 || len(s.Examples) > maxSkippedExamples {
		return fmt.Errorf("%w: skipped", ErrProtocol)
	}
	for _, p := range s.Examples {
		// Not a path that anything is written to, but it is shown. QuoteToASCII makes four bytes of one.
		if len(p) > 4*receive.MaxPath+2 || !utf8.ValidString(p) {
			return fmt.Errorf("%w: skipped", ErrProtocol)
		}
	}
	return nil
}

// validX reports whether x can be a transfer's name: 32 lower-case hexadecimal digits.
func validX(x string) bool {
	p, err := hex.DecodeString(x)
	return err == nil && len(p) == 16 && hex.EncodeToString(p) == x
}

// stateMessage is the body of POST /v1/x/{x}/state, in both directions.
type stateMessage struct {
	State  State        `json:"state"`
	Code   string       `json:"code,omitempty"`
	Done   int64        `json:"bytes_done,omitempty"`
	Failed int          `json:"files_failed,omitempty"`
	Hash   content.Hash `json:"hash,omitzero"` // of a transfer of one file
}

// batchRequest is the body of POST /v1/x/{x}/batch.
type batchRequest struct {
	Entries []int `json:"entries"`          // ascending
	Hashes  bool  `json:"hashes,omitempty"` // only those
}

// The header of a file in a batch: index, status, length of the bytes; then the bytes, if any, and the 32 bytes of their hash, unless
// the status tells of an error.
const frameHeader = 4 + 1 + 4

// Statuses of a file in a batch.
const (
	frameOK         = 0
	frameChanged    = 1
	frameUnreadable = 2
	frameHash       = 3 // only the hash was asked for
)

// refusal is the body of every answer that is not a success.
type refusal struct {
	Code   string `json:"code"`
	Reason string `json:"reason,omitempty"`
}

var httpStatus = map[string]int{
	"not_found": http.StatusNotFound, "refused": http.StatusForbidden, "off": http.StatusForbidden,
	"size": http.StatusForbidden, "quota": http.StatusForbidden, "busy": http.StatusTooManyRequests, "changed": http.StatusConflict,
	"paused": http.StatusConflict, "cancelled": http.StatusGone, "too_large": http.StatusRequestEntityTooLarge,
	"no_space": http.StatusInsufficientStorage, "unreadable": http.StatusUnprocessableEntity, "internal": http.StatusInternalServerError,
}

// writeRefusal answers with the error's word. A reason is only sent when it was written for the peer.
func writeRefusal(w http.ResponseWriter, err error, reason string) {
	code := Code(err)
	status := httpStatus[code]
	if status == 0 {
		status = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(refusal{Code: code, Reason: reason})
}

// readRefusal turns an answer that is not a success into an error, with the peer's reason if there is one, and closes the body.
func readRefusal(resp *http.Response) (reason string, err error) {
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusTooManyRequests {
		return "", ErrBusy // also said by the session, in other words
	}
	var r refusal
	if e := json.NewDecoder(io.LimitReader(resp.Body, maxErrorBody)).Decode(&r); e != nil {
		return "", fmt.Errorf("%w: status %d", ErrProtocol, resp.StatusCode)
	}
	if len(r.Reason) > maxLabel || !utf8.ValidString(r.Reason) {
		r.Reason = ""
	}
	return r.Reason, fromCode(r.Code)
}

// readJSON reads one JSON value of at most limit bytes and nothing after it.
func readJSON(body io.Reader, limit int64, v any) error {
	p, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return err
	}
	if int64(len(p)) > limit {
		return ErrTooLarge
	}
	if err := json.Unmarshal(p, v); err != nil {
		return errors.Join(ErrProtocol, err)
	}
	return nil
}

func newHex(n int) string {
	p := make([]byte, n)
	rand.Read(p)
	return hex.EncodeToString(p)
}
