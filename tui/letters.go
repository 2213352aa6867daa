package tui

import (
	"reflect"
	"sort"
	"strings"

	"nigh/agent/control"
)

const (
	// maxMessages bounds the messages that are kept here; the agent has all.
	maxMessages = 2000
	// maxLines bounds the lines of one message that are kept.
	maxLines = 2000
)

// inOrder puts messages in the order of their numbers.
func inOrder(list []control.Message) {
	sort.Slice(list, func(i, j int) bool { return list[i].Seq < list[j].Seq })
}

// scrubEvent is scrub, but it leaves messages their line breaks.
func scrubEvent(e *control.Event, asciiOnly bool) {
	var list []*control.Message
	if e.Message != nil {
		list = append(list, e.Message)
	}
	if e.State != nil {
		for i := range e.State.Messages {
			list = append(list, &e.State.Messages[i])
		}
	}
	texts := takeTexts(list)
	scrub(reflect.ValueOf(e), asciiOnly)
	giveTexts(list, texts, asciiOnly)
}

func takeTexts(list []*control.Message) []string {
	var texts []string
	for _, m := range list {
		texts = append(texts, m.Text)
		m.Text = ""
	}
	return texts
}

func giveTexts(list []*control.Message, texts []string, asciiOnly bool) {
	for i, m := range list {
		lines := strings.SplitN(strings.ReplaceAll(texts[i], "\t", "    "), "\n", maxLines+1)
		for j := range lines {
			lines[j] = printable(lines[j], asciiOnly)
		}
		m.Text = strings.Join(lines[:min(len(lines), maxLines)], "\n")
	}
}

// putMessage takes a message that is new or changed.
func (s *state) putMessage(m control.Message) {
	i := sort.Search(len(s.messages), func(i int) bool { return s.messages[i].Seq >= m.Seq })
	switch {
	case i < len(s.messages) && s.messages[i].Seq == m.Seq:
		s.messages[i] = m
	case i == 0 && len(s.messages) > 0:
		// A change of one so old that it was not asked for.
	default:
		s.messages = append(s.messages, m)
		copy(s.messages[i+1:], s.messages[i:])
		s.messages[i] = m
		if len(s.messages) > maxMessages {
			s.messages = s.messages[len(s.messages)-maxMessages:]
		}
	}
}

// addOlder takes the messages before number before, if that is where ours begin.
func (s *state) addOlder(list []control.Message, before uint64, asciiOnly bool) {
	if len(s.messages) == 0 || s.messages[0].Seq != before {
		return
	}
	var pointers []*control.Message
	for i := range list {
		pointers = append(pointers, &list[i])
	}
	texts := takeTexts(pointers)
	scrub(reflect.ValueOf(&list), asciiOnly)
	giveTexts(pointers, texts, asciiOnly)
	inOrder(list)
	list = list[:sort.Search(len(list), func(i int) bool { return list[i].Seq >= before })]
	s.messages = append(list, s.messages...)
}
