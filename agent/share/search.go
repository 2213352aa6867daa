package share

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"nigh/agent/content"
	"nigh/agent/receive"
)

// A query is what a search looks for: words, or a hash.
type query struct {
	words []string // folded
	hash  content.Hash
}

// parseQuery returns [ErrProtocol] for a query without a word or over a bound.
func parseQuery(text string) (query, error) {
	if len(text) > MaxQuery || !utf8.ValidString(text) {
		return query{}, fmt.Errorf("%w: query", ErrProtocol)
	}
	q := query{words: strings.Fields(receive.Fold(text))}
	if len(q.words) == 0 || len(q.words) > maxWords {
		return query{}, fmt.Errorf("%w: query of %d words", ErrProtocol, len(q.words))
	}
	return q, nil
}

// CheckQuery returns an error unless text can be searched for.
func CheckQuery(text string) error {
	_, err := parseQuery(text)
	return err
}

// A matcher looks for a query in the entries of one share. They come directory by directory.
type matcher struct {
	query
	dir   string // the last one
	inDir uint   // bit i: word i occurs in its path
	known bool
	buf   []byte
}

// match reports whether the entry under the name in dir is what is looked for.
func (m *matcher) match(dir, name string, e *entry) bool {
	if !m.hash.IsZero() {
		return e.hash == m.hash && !e.dir
	}
	if !m.known || dir != m.dir {
		m.dir, m.known, m.inDir = dir, true, m.occur(dir)
	}
	in := m.occur(name)
	return in != 0 && in|m.inDir == 1<<len(m.words)-1
}

// occur returns which words occur in text.
func (m *matcher) occur(text string) (in uint) {
	m.buf = m.buf[:0]
	for i := range len(text) {
		c := text[i]
		if c >= utf8.RuneSelf {
			m.buf = append(m.buf[:0], receive.Fold(text)...)
			break
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A' // what folding does to ASCII, at a tenth of the price
		}
		m.buf = append(m.buf, c)
	}
	for i, word := range m.words {
		if bytes.Contains(m.buf, []byte(word)) {
			in |= 1 << i
		}
	}
	return in
}

// errEnough ends a pass over the index.
var errEnough = errors.New("share: enough")

// find calls fn for what the query finds in a share, until fn returns false or ctx ends. It reports whether it came to the end.
func (s *Shares) find(ctx context.Context, id string, q query, fn func(path string, e *entry) bool) (whole bool, err error) {
	m := matcher{query: q}
	n := 0
	err = s.db.below(id, "", func(key []byte, e entry) error {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return errEnough
		}
		dir, name := splitKey(key)
		if m.match(dir, name, &e) && !fn(join(dir, name), &e) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return false, nil
	}
	return err == nil, err
}
