package simnet

import (
	"fmt"
	"strings"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Entry is one line of the record: a message and its fate, or a remark (Text).
type Entry struct {
	At, Arrives time.Time
	From, To    string
	Path        path.Path
	Data        []byte
	Fate        string
	Text        string
}

// what describes the content.
func (e Entry) what() string {
	if e.Data == nil {
		return e.Text
	}
	h, err := wire.ParseHeader(e.Data)
	if err != nil {
		return fmt.Sprintf("%d octets that are no IKE message", len(e.Data))
	}
	kind := "request"
	if h.Response() {
		kind = "response"
	}
	return fmt.Sprintf("%v %s %d (SPIi %04x SPIr %04x, %d octets)", h.Exchange, kind, h.MessageID, uint64(h.InitiatorSPI)>>48, uint64(h.ResponderSPI)>>48, len(e.Data))
}

// Text prints the record, a line for each entry, with the time since the start.
func (n *Network) Text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for _, e := range n.record {
		at := e.At.Sub(n.start).Seconds()
		if e.Path.IsZero() {
			fmt.Fprintf(&b, "%10.6f  %s: %s\n", at, e.From, e.what())
			continue
		}
		fmt.Fprintf(&b, "%10.6f  %s -> %s %v:%d %s: %s", at, e.From, e.To, e.Path.Kind, e.Path.Remote.Port(), e.what(), e.Fate)
		if !e.Arrives.IsZero() {
			fmt.Fprintf(&b, ", arrives %.6f", e.Arrives.Sub(n.start).Seconds())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Mermaid prints the record as a sequence diagram.
func (n *Network) Mermaid() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	b.WriteString("sequenceDiagram\n")
	for _, e := range n.record {
		at := e.At.Sub(n.start).Seconds()
		// Mermaid ends a statement at a semicolon and a comment begins with a hash.
		text := strings.NewReplacer(";", ",", "#", "", "\n", " ").Replace(e.what())
		switch {
		case e.Path.IsZero():
			fmt.Fprintf(&b, "    Note over %s: %.3f %s\n", e.From, at, text)
		case e.Fate == "lost" || e.Fate == "cut":
			fmt.Fprintf(&b, "    %s--x%s: %.3f %v %s (%s)\n", e.From, e.To, at, e.Path.Kind, text, e.Fate)
		default:
			fmt.Fprintf(&b, "    %s->>%s: %.3f %v %s (%s)\n", e.From, e.To, at, e.Path.Kind, text, e.Fate)
		}
	}
	return b.String()
}
