package suite

import (
	"slices"
	"strings"

	"github.com/ikegod/ikegod/pkg/iana"
)

// Lacking is what cannot be had on this host although this package has it, such as an algorithm that the kernel was built without, each with the reason in an
// operator's words.
type Lacking struct {
	Encr  map[iana.Encr]string
	Integ map[iana.Integ]string
}

// Without is p without what is lacking. A proposal that nothing can be chosen from any more is left out; what is offered is numbered anew. why names what was taken
// away, each once with its reason; it is empty if that is nothing.
func (p Proposals) Without(l Lacking) (left Proposals, why string) {
	if len(l.Encr) == 0 && len(l.Integ) == 0 {
		return p, ""
	}
	var reasons []string
	gone := func(name, reason string) {
		if text := name + ": " + reason; !slices.Contains(reasons, text) {
			reasons = append(reasons, text)
		}
	}
	for _, one := range p {
		hadInteg := len(one.Integ) > 0
		one.Encr = slices.DeleteFunc(slices.Clone(one.Encr), func(e Encr) bool {
			reason, lacks := l.Encr[e.ID]
			if lacks {
				gone(encrName(uint16(e.ID), 0), reason)
			}
			return lacks
		})
		one.Integ = slices.DeleteFunc(slices.Clone(one.Integ), func(i iana.Integ) bool {
			reason, lacks := l.Integ[i]
			if lacks {
				gone(integName(uint16(i)), reason)
			}
			return lacks
		})
		if len(one.Encr) > 0 && (!hadInteg || len(one.Integ) > 0) {
			left = append(left, one)
		}
	}
	return left, strings.Join(reasons, "; ")
}
