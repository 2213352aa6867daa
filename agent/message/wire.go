package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"
)

// protocolVersion is the v of a body.
const protocolVersion = 1

// A body is what POST /v1/msg carries.
type body struct {
	Version int    `json:"v"`
	ID      wireID `json:"id"`
	Text    string `json:"text"`
}

// encode returns the body of a request. The text was checked.
func (b body) encode() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // six bytes for each of a text of brackets
	err := enc.Encode(b)
	return buf.Bytes(), err
}

// parse reads the body of a request, which is hostile. Its error wraps that of [Check], or [ErrProtocol].
func parse(raw []byte) (body, error) {
	if len(raw) > maxBody {
		return body{}, fmt.Errorf("%w: a body of more than %d bytes", ErrTooLong, maxBody)
	}
	// json would put U+FFFD in the place of what is not UTF-8: that is not what was written.
	if !utf8.Valid(raw) {
		return body{}, fmt.Errorf("%w: bytes that are not UTF-8", ErrNotText)
	}
	var b body
	if err := json.Unmarshal(raw, &b); err != nil {
		return body{}, errors.Join(ErrProtocol, err)
	}
	if b.Version != protocolVersion {
		return body{}, fmt.Errorf("%w: version %d", ErrProtocol, b.Version)
	}
	if b.ID == (wireID{}) {
		return body{}, fmt.Errorf("%w: no id", ErrProtocol)
	}
	return b, Check(b.Text)
}

// refusal is the body of an answer that is not a success.
type refusal struct {
	Code string `json:"code"`
}

func writeRefusal(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	for is, s := range httpStatus {
		if errors.Is(err, is) {
			status = s
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(refusal{Code: Code(err)}) // a lost peer asks again
}

// readAnswer turns an answer into nil or the error that it means, and closes its body. Of the peer's words only those count that
// are known here.
func readAnswer(resp *http.Response) error {
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrPeerGone, err)
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode == http.StatusTooManyRequests:
		return ErrBusy // also said by the session, in other words
	case resp.StatusCode == http.StatusForbidden:
		return ErrRefused
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusMethodNotAllowed:
		return ErrUnsupported
	case resp.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("%w: it answered with status %d", ErrPeerGone, resp.StatusCode)
	}
	var r refusal
	if json.Unmarshal(raw, &r) == nil {
		for _, err := range []error{ErrEmpty, ErrTooLong, ErrNotText} {
			if r.Code == Code(err) {
				return fmt.Errorf("%w: %w", ErrProtocol, err)
			}
		}
	}
	return fmt.Errorf("%w: it answered with status %d", ErrProtocol, resp.StatusCode)
}
