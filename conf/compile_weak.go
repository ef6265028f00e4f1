package conf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
)

// weakAlgorithms warns of algorithms that RFC 8247 advises against. No default has one, so that they are there only where they are written; nothing is left out.
func (b *build) weakAlgorithms(e *entry, list suite.Proposals) {
	var weak []string
	for _, p := range list {
		for _, k := range p.KE {
			if k == iana.KE_MODP1024 || k == iana.KE_MODP1536 {
				weak = append(weak, k.String())
			}
		}
		if slices.Contains(p.PRF, iana.PRF_HMAC_SHA1) || slices.Contains(p.Integ, iana.AUTH_HMAC_SHA1_96) {
			weak = append(weak, "SHA-1")
		}
	}
	if len(weak) == 0 {
		return
	}
	slices.Sort(weak)
	weak = slices.Compact(weak)
	verb := "is"
	if len(weak) > 1 {
		verb = "are"
	}
	b.warn(e, Warning, fmt.Sprintf("%s: %s %s weak (RFC 8247)", e.word, strings.Join(weak, " and "), verb), "keep it only for a peer that has nothing better; sha2_256 and modp2048, dh19 or dh31 are")
}
