package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// Question is what the target asked of us on a connection that we opened for it.
type Question struct {
	*http.Request
	Body []byte
}

// Answers writes the answer to a question, as it comes on the wire. With false, or an
// error, the connection is closed.
type Answers func(w io.Writer, q Question) (more bool)

// Server is the side of a peer that the target asks.
type Server struct {
	peer    *Peer
	answers Answers
	ctx     context.Context
	end     context.CancelFunc
	work    sync.WaitGroup
	again   atomic.Int32 // connections that may still replace others
	live    atomic.Int32 // connections
}

// stayAgain is how many connections that end are replaced by [Peer.Stay].
const stayAgain = 16

// Serve opens two connections on which the target can ask, and more when it wants them, and gives what it asks to answers,
// which may be called by several goroutines. Close it.
func (p *Peer) Serve(ctx context.Context, answers Answers) (*Server, error) {
	s := &Server{peer: p, answers: answers}
	s.ctx, s.end = context.WithCancel(ctx)
	for range 2 {
		if err := s.open(); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Stay is [Peer.Serve], and opens a connection when it has none left, as a device does that wants to be asked: one more beside
// others would take the place of that on which the target just asks.
func (p *Peer) Stay(ctx context.Context, answers Answers) (*Server, error) {
	s, err := p.Serve(ctx, answers)
	if err == nil {
		s.again.Store(stayAgain)
	}
	return s, err
}

// Close ends all its connections and waits for that.
func (s *Server) Close() {
	s.end()
	s.work.Wait()
}

func (s *Server) open() error {
	conn, err := s.peer.Secure(s.ctx, Serving, nil)
	if err != nil {
		return err
	}
	s.live.Add(1)
	s.work.Go(func() {
		stop := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
		defer stop()
		s.talk(conn)
		_ = conn.Close()
		if s.live.Add(-1) == 0 && s.ctx.Err() == nil && s.again.Add(-1) >= 0 {
			_ = s.open() // without it the target tells us nothing more
		}
	})
	return nil
}

func (s *Server) talk(conn *tls.Conn) {
	in := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return
		}
		if r.URL.Path == "/v1/dialback" {
			if s.open() != nil || Reply(conn, http.StatusNoContent, nil) != nil {
				return
			}
			continue
		}
		if !s.answers(conn, Question{r, body}) {
			return
		}
	}
}

// Reply writes a whole answer with a body.
func Reply(w io.Writer, status int, body []byte, headers ...string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if status != http.StatusNoContent {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	_, err := w.Write(b.Bytes())
	return err
}

// endless writes piece again and again until the other side has enough, and returns how many bytes went out.
func endless(w io.Writer, piece string, most int) (n int) {
	many := bytes.Repeat([]byte(piece), max(1, 16<<10/len(piece)))
	for n < most {
		m, err := w.Write(many)
		n += m
		if err != nil {
			break
		}
	}
	return n
}
