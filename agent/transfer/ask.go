package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// get makes a bulk request and returns its body, which fails when nothing comes for a while, and a function to end it: with true the
// connection is kept. body is sent as JSON when it is not nil. A peer that is busy is asked again after a while.
func (p *pull) get(ctx context.Context, path, byteRange string, body []byte) (io.Reader, func(whole bool), error) {
	in, _, end, err := p.getFrom(ctx, p.origin, path, byteRange, body)
	return in, end, err
}

// getFrom is get from any holder, with the header of the answer. Another one than the transfer's own peer that is busy is not waited for.
func (p *pull) getFrom(ctx context.Context, h *holder, path, byteRange string, body []byte) (io.Reader, *http.Response, func(whole bool), error) {
	slots := p.e.slotsOf(h.peer)
	for try := 0; ; try++ {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil, nil, nil, context.Cause(ctx)
		}
		in, resp, end, err := p.getHeld(ctx, h, path, byteRange, body)
		if err == nil {
			return in, resp, end, nil
		}
		if !errors.Is(err, ErrBusy) || try == busyTries || !h.origin {
			return nil, nil, nil, err
		}
		// A session counts the requests of a device that is not trusted: fewer and larger ones.
		p.portion.Store(min(2*p.portion.Load(), askMax))
		select {
		case <-time.After(busyWait):
		case <-ctx.Done():
			return nil, nil, nil, context.Cause(ctx)
		}
	}
}

// getHeld is getFrom when one of the holder's slots is taken already, which it gives back in the end.
func (p *pull) getHeld(ctx context.Context, h *holder, path, byteRange string, body []byte) (io.Reader, *http.Response, func(whole bool), error) {
	slots := p.e.slotsOf(h.peer)
	in, resp, end, err := p.getOnce(ctx, h, path, byteRange, body)
	if err != nil {
		<-slots
		return nil, nil, nil, err
	}
	return in, resp, func(whole bool) { end(whole); <-slots }, nil
}

func (p *pull) getOnce(ctx context.Context, h *holder, path, byteRange string, body []byte) (io.Reader, *http.Response, func(whole bool), error) {
	ctx, cancel := context.WithCancelCause(ctx)
	first, stall := p.e.firstByte, p.e.stall
	if !h.origin {
		first, stall = min(first, p.e.holderStall), min(stall, p.e.holderStall)
	}
	watch := time.AfterFunc(first, func() { cancel(fmt.Errorf("%w: no answer", ErrPeerGone)) })
	resp, err := p.ask(ctx, h, path, byteRange, body) //nolint:bodyclose // end closes it
	if err != nil {
		watch.Stop()
		cancel(nil)
		return nil, nil, nil, err
	}
	end := func(whole bool) {
		if whole {
			// Reads the end of the chunked stream, so that the connection can be used again.
			_, _ = io.CopyN(io.Discard, resp.Body, 1)
		} else {
			cancel(nil)
		}
		watch.Stop()
		_ = resp.Body.Close()
		cancel(nil)
	}
	came := func() { h.heard.Store(int64(time.Since(clock))) }
	if p.m != nil { // before, it is the manifest that is asked for
		came = func() {
			h.heard.Store(int64(time.Since(clock)))
			p.firstByte()
		}
	}
	return &watched{resp.Body, watch, stall, ctx, &p.e.gatesOf(h.peer).down, came}, resp, end, nil
}

// ask sends one bulk request and returns its answer when it is a success.
func (p *pull) ask(ctx context.Context, h *holder, path, byteRange string, body []byte) (*http.Response, error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://nigh"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := p.e.cfg.Peers.Bulk(h.peer).Do(req)
	if err != nil {
		return nil, p.lost(ctx, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	_, err = readRefusal(resp)
	if errors.Is(err, ErrNotFound) {
		err = ErrWithdrawn
	}
	return nil, err
}

// lost turns an error of a request into what it means: the reason why the request was ended, or a peer that went away.
func (p *pull) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	return fmt.Errorf("%w: %w", ErrPeerGone, err)
}

// A watched body pushes the deadline of its request with every read, and reads as fast as the rates allow.
type watched struct {
	body  io.Reader
	timer *time.Timer
	stall time.Duration
	ctx   context.Context
	gate  *gate
	came  func() // called when something came
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.body.Read(p[:w.gate.piece(len(p))])
	if n > 0 {
		w.came()
		w.timer.Stop() // the waiting is ours
		if !w.gate.pass(w.ctx.Done(), n) {
			return n, context.Cause(w.ctx)
		}
		w.timer.Reset(w.stall)
	}
	if err != nil && !errors.Is(err, io.EOF) && w.ctx.Err() != nil {
		err = context.Cause(w.ctx)
	}
	return n, err
}
