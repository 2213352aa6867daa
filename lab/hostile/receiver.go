package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// receivers are offered something, and ask for what was not.
func receivers() []Attack {
	return []Attack{{Name: "receiver/asking for what was not offered", As: Traitor, Run: askWrong}}
}

// offered waits until the target offers something to p, and takes it.
func offered(ctx context.Context, p *Peer) (offer Offer, s *Server, err error) {
	if p.Send == nil {
		return nil, nil, ErrNeeds
	}
	offers := make(chan Offer, 4)
	s, err = p.Stay(ctx, func(w io.Writer, q Question) bool {
		switch q.URL.Path {
		case "/v1/hello":
			return p.hello(w)
		case "/v1/offer":
			var o Offer
			if json.Unmarshal(q.Body, &o) == nil {
				offers <- o
			}
			return Reply(w, http.StatusAccepted, nil) == nil
		}
		return Reply(w, http.StatusNotFound, []byte(`{"code":"not_found"}`)) == nil
	})
	if err != nil {
		return nil, nil, err
	}
	if err := p.Send(ctx, p.ID); err != nil {
		s.Close()
		return nil, nil, err
	}
	select {
	case offer = <-offers:
		return offer, s, nil
	case <-ctx.Done():
		s.Close()
		return nil, nil, fmt.Errorf("the target offered nothing: %w", ctx.Err())
	}
}

// askWrong asks for everything but what was offered, then for what was, and ends the transfer.
func askWrong(ctx context.Context, p *Peer) (string, error) {
	offer, s, err := offered(ctx, p)
	if err != nil {
		return "", err
	}
	defer s.Close()
	path := fmt.Sprintf("/v1/x/%s/", offer["x"])
	c, err := p.Client(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	bad := 0
	for _, end := range []string{
		"manifest", "manifest?from=-1", "manifest?from=9223372036854775807", "manifest?from=18446744073709551616", "manifest?from=x",
		"file/-1", "file/1", "file/9223372036854775807", "file/99999999999999999999", "file/..", "file/0",
		"tree/0?from=0&to=0", "tree/0?from=-1&to=1", "tree/0?from=0&to=1000000000", "tree/0?from=9223372036854775806&to=9223372036854775807", "tree/7?from=0&to=1",
	} {
		status, _, err := c.Do(http.MethodGet, path+end, nil)
		if err != nil {
			return "", fmt.Errorf("%s: %w", end, err)
		}
		if status/100 != 4 && status/100 != 3 { // a path that is not clean is sent to the clean one
			return "", fmt.Errorf("%s: status %d", end, status)
		}
		bad++
	}
	for _, span := range []string{
		"bytes=0-18446744073709551615", "bytes=-1", "bytes=-5--1", "bytes=0-9223372036854775807", "bytes=1-2", "bytes=0-", "bytes=5-1",
		"bytes=0-1,2-3", "lines=0-1", "bytes=9223372036854775807-9223372036854775807", strings.Repeat("bytes=0-0,", 100),
	} {
		status, err := p.Say(ctx, fmt.Sprintf("GET %sfile/0 HTTP/1.1\r\nHost: nigh\r\nRange: %s\r\n\r\n", path, span))
		if err != nil {
			return "", fmt.Errorf("%s: %w", span, err)
		}
		if status/100 != 4 {
			return "", fmt.Errorf("range %s: status %d", span, status)
		}
		bad++
	}
	many := make([]int, 3000)
	for i := range many {
		many[i] = i
	}
	for what, body := range map[string]any{
		"no entry": map[string]any{"entries": []int{}}, "an entry that is none": map[string]any{"entries": []int{1}}, "negative": map[string]any{"entries": []int{-1}},
		"twice": map[string]any{"entries": []int{0, 0}}, "3 000": map[string]any{"entries": many}, "2^64": `{"entries":[18446744073709551616]}`,
		"one that is too large for a batch": map[string]any{"entries": []int{0}},
	} {
		status, _, err := c.Do(http.MethodPost, path+"batch", body)
		if err != nil {
			return "", fmt.Errorf("batch: %s: %w", what, err)
		}
		if status/100 != 4 {
			return "", fmt.Errorf("batch: %s: status %d", what, status)
		}
		bad++
	}
	// To anybody else the transfer does not exist.
	stranger, err := New(p.Target)
	if err != nil {
		return "", err
	}
	for _, end := range []string{"manifest?from=0", "file/0", "tree/0?from=0&to=1"} {
		status, _, err := stranger.Do(ctx, http.MethodGet, path+end, nil)
		if err != nil {
			return "", err
		}
		if status != http.StatusNotFound {
			return "", fmt.Errorf("a stranger's question for %s: status %d", end, status)
		}
	}
	status, blob, err := c.Do(http.MethodGet, path+"manifest?from=0", nil)
	if err != nil || status != http.StatusOK || rootOf(blob) != offer["manifest_root"] {
		return "", fmt.Errorf("after all that the manifest is served with status %d, %d bytes: %w", status, len(blob), err)
	}
	for _, state := range []map[string]any{
		{"state": "exploded"}, {"state": "waiting"}, {"state": ""}, {"state": "verifying"},
	} {
		status, _, err := c.Do(http.MethodPost, path+"state", state)
		if err != nil || status/100 != 4 {
			return "", fmt.Errorf("state %q: status %d: %w", state["state"], status, err)
		}
		bad++
	}
	status, _, err = c.Do(http.MethodPost, path+"state", map[string]any{"state": "failed", "code": "\x1b[2Jcancelled", "files_failed": int64(1)<<62 - 1, "bytes_done": -5})
	if err != nil || status != http.StatusNoContent {
		return "", fmt.Errorf("the end: status %d: %w", status, err)
	}
	return fmt.Sprintf("%d wrong questions refused, the right one answered", bad), nil
}
