package pairing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"nigh/agent/session"
)

// version is that of the pairing messages.
const version = 1

// The messages. A field that is not known is skipped; one that is missing is zero,
// which no nonce or MAC can be.
type (
	commitMessage struct {
		Version    int    `json:"v"`
		Name       string `json:"name,omitempty"`
		Commitment word   `json:"commitment"`
	}
	commitAnswer struct {
		Version int    `json:"v"`
		Name    string `json:"name,omitempty"`
		Nonce   word   `json:"nonce"`
	}
	revealMessage struct {
		Nonce word `json:"nonce"`
	}
	confirmMessage struct {
		MAC    *word `json:"mac,omitempty"`
		Cancel bool  `json:"cancel,omitempty"` // nothing more is asked
		Undo   bool  `json:"undo,omitempty"`   // and nothing is trusted here
	}
	confirmAnswer struct {
		State string `json:"state"` // "open", "paired", "refused", "expired"
		MAC   *word  `json:"mac,omitempty"`
	}
	codeMessage struct {
		Version int    `json:"v"`
		Name    string `json:"name,omitempty"`
		Proof   word   `json:"proof"`
	}
	codeAnswer struct {
		Name  string `json:"name,omitempty"`
		Proof word   `json:"proof"`
	}
	refusal struct {
		Code string `json:"code"`
	}
)

// refusals are the errors that travel, with their codes and HTTP statuses.
var refusals = []struct {
	err    error
	code   string
	status int
}{
	{ErrBusy, "busy", http.StatusTooManyRequests},
	{ErrTooOften, "often", http.StatusTooManyRequests},
	{errCrossed, "crossed", http.StatusConflict},
	{ErrTampered, "tampered", http.StatusForbidden},
	{ErrProtocol, "protocol", http.StatusBadRequest},
	{ErrWrongCode, "wrong", http.StatusForbidden},
	{ErrLocked, "locked", http.StatusTooManyRequests},
	{ErrOff, "off", http.StatusForbidden},
	{ErrLost, "lost", http.StatusGone},
}

// errCrossed is the answer to a pairing that gives way to one that the other side
// has begun.
var errCrossed = errors.New("pairing: the other side has begun one too")

// refuse answers with an error.
func refuse(w http.ResponseWriter, err error) {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			answer(w, r.status, refusal{r.code})
			return
		}
	}
	answer(w, http.StatusInternalServerError, refusal{"failed"})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a lost peer is noticed on the connection
}

// read takes the body of a request, one JSON object.
func read(r io.Reader, v any) error {
	raw, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	if len(raw) > maxBody {
		return fmt.Errorf("%w: a message of more than %d bytes", ErrProtocol, maxBody)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

// post sends one message on the channel and reads the answer, in at most limit.
func post(ctx context.Context, ch *session.Channel, what string, limit time.Duration, message, into any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	raw, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("pairing: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+session.Host+"/v1/pair/"+what, bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("pairing: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := ch.Client.Do(r)
	if err != nil {
		if err := session.Refused(err); errors.Is(err, session.ErrRefused) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return read(resp.Body, into)
	}
	var no refusal
	if err := read(resp.Body, &no); err != nil && !errors.Is(err, ErrProtocol) {
		return err
	}
	for _, r := range refusals {
		if no.Code == r.code {
			return r.err
		}
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		return ErrTooOften // said before the message was read
	}
	if resp.StatusCode == http.StatusNotFound {
		return ErrOld
	}
	return fmt.Errorf("%w: status %d", ErrProtocol, resp.StatusCode)
}

// ErrOld is returned when the other side does not know of pairing.
var ErrOld = errors.New("pairing: the other side cannot pair")
