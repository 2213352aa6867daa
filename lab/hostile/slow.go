package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// slow are attacks by being slow, and by numbers. They come last: they use up what strangers may have.
func slow() []Attack {
	return []Attack{
		trickle("slow/a handshake", false, func(i int) string { return "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[min(i, 10) : min(i, 10)+1] }),
		trickle("slow/a header", true, func(i int) string { return at("GET /v1/hello HTTP/1.1\r\nHost: nigh\r\nX: ", i) }),
		trickle("slow/a body", true, func(i int) string {
			if i == 0 {
				return "POST /v1/offer HTTP/1.1\r\nHost: nigh\r\nContent-Length: 60000\r\n\r\n"
			}
			return " "
		}),
		{Name: "slow/readers that do not read", Run: func(ctx context.Context, p *Peer) (string, error) {
			asked := 0
			for range 12 {
				conn, err := p.Secure(ctx, Asking, nil)
				if err != nil {
					return "", err
				}
				defer func() { _ = conn.Close() }()
				_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
				for range 2000 {
					if _, err := io.WriteString(conn, "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\n\r\n"); err != nil {
						break
					}
					asked++
				}
			}
			return fmt.Sprintf("%d questions on 12 connections, no answer read", asked), nil
		}},
		{Name: "numbers/handshakes that are reset", Run: resets},
		{Name: "numbers/handshakes that are half open", Run: func(ctx context.Context, p *Peer) (string, error) {
			held, closed, err := p.HalfOpen(ctx, 300)
			for _, c := range held {
				_ = c.Close()
			}
			if err == nil && closed < 300-100 {
				err = fmt.Errorf("the target holds %d of 300 half-open connections", 300-closed)
			}
			return fmt.Sprintf("%d of 300 were ended by the target at once", closed), err
		}},
	}
}

// at is the character at i, the last one for ever.
func at(text string, i int) string { return text[min(i, len(text)-1) : min(i, len(text)-1)+1] }

// trickle says one piece after the other, slowly, until the target has enough.
func trickle(name string, secure bool, piece func(i int) string) Attack {
	return Attack{Name: name, Slow: true, Run: func(ctx context.Context, p *Peer) (string, error) {
		var conn net.Conn
		var err error
		if secure {
			conn, err = p.Secure(ctx, Asking, nil)
		} else {
			conn, err = p.Dial(ctx)
		}
		if err != nil {
			return "", err
		}
		defer func() { _ = conn.Close() }()
		began := time.Now()
		ended := make(chan error, 1)
		go func() { // ends with the connection
			_, err := io.Copy(io.Discard, conn)
			ended <- err
		}()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			_, _ = io.WriteString(conn, piece(i))
			select {
			case err := <-ended:
				if errors.Is(err, os.ErrDeadlineExceeded) {
					return "", fmt.Errorf("the target listens after %v", time.Since(began))
				}
				return fmt.Sprintf("ended after %d pieces in %v", i+1, time.Since(began).Round(100*time.Millisecond)), nil
			case <-tick.C:
			}
		}
	}}
}
