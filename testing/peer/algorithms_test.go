package peer

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
)

// lacking is what we have and strongSwan 5.9.8 has not. Anything else that it does not list fails the test.
var lacking = []string{}

// listed reads `swanctl --list-algs`: the names of each kind, without underlines, which the registries' names have in other places.
func listed(out string) map[string][]string {
	kinds, kind := map[string][]string{}, ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		name, _, isAlgorithm := strings.Cut(line, "[")
		switch {
		case strings.HasSuffix(line, ":"):
			kind = strings.TrimSuffix(line, ":")
		case isAlgorithm:
			kinds[kind] = append(kinds[kind], plain(name))
		}
	}
	kinds["encryption"] = append(kinds["encryption"], kinds["aead"]...)
	return kinds
}

func plain(name string) string { return strings.ReplaceAll(name, "_", "") }

// inCommon is what we implement and strongSwan lists.
func inCommon(t *testing.T, out string) suite.Algorithms {
	t.Helper()
	all, theirs := suite.Implemented(), listed(out)
	missing := func(kind, name, ours string) bool {
		if slices.Contains(theirs[kind], plain(name)) {
			return false
		}
		if !slices.Contains(lacking, ours) {
			t.Errorf("strongSwan does not list %s: if it has none, add it to what is lacking", ours)
		}
		return true
	}
	all.Encr = slices.DeleteFunc(all.Encr, func(e suite.Encr) bool { return missing("encryption", e.ID.String(), e.String()) })
	all.PRF = slices.DeleteFunc(all.PRF, func(p iana.PRF) bool { return missing("prf", "PRF_"+p.String(), p.String()) })
	all.Integ = slices.DeleteFunc(all.Integ, func(i iana.Integ) bool { return missing("integrity", i.String(), i.String()) })
	all.KE = slices.DeleteFunc(all.KE, func(k iana.KE) bool { return missing("dh", k.String(), k.String()) })
	return all
}

// strongSwan's words for proposals, made from the registry's names. A wrong guess does not load.
func theirEncr(e suite.Encr) string {
	family, mode, _ := strings.Cut(e.ID.String(), "_")
	switch {
	case e.KeyBits == 0:
		return strings.ToLower(plain(e.ID.String()))
	case mode == "CBC":
		mode = ""
	}
	return strings.ToLower(fmt.Sprintf("%s%d%s", family, e.KeyBits, plain(mode)))
}

func theirInteg(i iana.Integ) string {
	hash := strings.TrimPrefix(i.String(), "HMAC_")
	return strings.ToLower(strings.Replace(hash[:strings.LastIndexByte(hash, '_')], "SHA2_", "SHA", 1))
}

func theirPRF(p iana.PRF) string {
	return "prf" + strings.ToLower(strings.Replace(strings.TrimPrefix(p.String(), "HMAC_"), "SHA2_", "SHA", 1))
}

func theirKE(k iana.KE) string { return strings.ToLower(plain(k.String())) }

// cipher is encryption with the integrity algorithm that it needs.
type cipher struct {
	encr  suite.Encr
	integ iana.Integ // AUTH_NONE with an AEAD
}

// ours is in the form TYPE=LIST, which no default adds anything to.
func (c cipher) ours() string {
	if c.integ == iana.AUTH_NONE {
		return "encrypt=" + c.encr.String()
	}
	return fmt.Sprintf("encrypt=%s;integ=%s", c.encr, c.integ)
}

func (c cipher) theirs() string {
	if c.integ == iana.AUTH_NONE {
		return theirEncr(c.encr)
	}
	return theirEncr(c.encr) + "-" + theirInteg(c.integ)
}

// ciphers has each AEAD, and each other cipher and each integrity algorithm at least once.
func ciphers(a suite.Algorithms) (list []cipher) {
	var others []suite.Encr
	for _, e := range a.Encr {
		if e.AEAD() {
			list = append(list, cipher{e, iana.AUTH_NONE})
		} else {
			others = append(others, e)
		}
	}
	for i := range max(len(others), len(a.Integ)) {
		list = append(list, cipher{others[i%len(others)], a.Integ[i%len(a.Integ)]})
	}
	return list
}

// rows are tunnels that use everything at least once, the ciphers for IKE and for ESP.
func rows(a suite.Algorithms) (tunnels []tunnel) {
	c := ciphers(a)
	for i := range max(len(c), len(a.PRF), len(a.KE)) {
		ike, esp, prf, ke := c[i%len(c)], c[(i+3)%len(c)], a.PRF[i%len(a.PRF)], a.KE[i%len(a.KE)]
		tunnels = append(tunnels, tunnel{
			name: fmt.Sprintf("row%d", i), ike: fmt.Sprintf("%s;prf=%s;ke=%s", ike.ours(), prf, ke), esp: esp.ours(),
			theirIKE: fmt.Sprintf("%s-%s-%s", ike.theirs(), theirPRF(prf), theirKE(ke)), theirESP: esp.theirs(),
			expect: []string{"/PRF_" + prf.String() + "/"},
		})
	}
	return tunnels
}

// TestAlgorithms uses every algorithm that strongSwan and we have in common, in IKE and in ESP, whoever initiates. All tunnels are loaded at once, so that a
// responder has to find by proposals and identities which is meant.
func TestAlgorithms(t *testing.T) {
	need(t)
	s := sites[0].make(t)
	asked, err := Start(s.theirs.host, "")
	if err != nil {
		t.Fatal(err)
	}
	algs, err := asked.Swanctl("--list-algs")
	if err != nil {
		t.Fatalf("%v: %s", err, algs)
	}
	if err := asked.Stop(); err != nil {
		t.Fatal(err)
	}
	all := inCommon(t, algs)
	tunnels := rows(all)
	checkCoverage(t, all, tunnels)
	m := meet(t, s, tunnels)
	for _, u := range tunnels {
		name := u.theirIKE + ":" + u.theirESP
		t.Run(name+"/we-initiate", func(t *testing.T) { m.weInitiate(t, u, carries) })
		t.Run(name+"/strongswan-initiates", func(t *testing.T) { m.theyInitiate(t, u, carries) })
	}
}

// checkCoverage looks that nothing was left out.
func checkCoverage(t *testing.T, all suite.Algorithms, tunnels []tunnel) {
	t.Helper()
	var ike, esp []string
	for _, u := range tunnels {
		ike = append(ike, strings.Split(u.theirIKE, "-")...)
		esp = append(esp, strings.Split(u.theirESP, "-")...)
	}
	expect := func(where string, words []string, word string) {
		if !slices.Contains(words, word) {
			t.Errorf("%s is in no proposal for %s", word, where)
		}
	}
	for _, e := range all.Encr {
		expect("IKE", ike, theirEncr(e))
		expect("ESP", esp, theirEncr(e))
	}
	for _, i := range all.Integ {
		expect("IKE", ike, theirInteg(i))
		expect("ESP", esp, theirInteg(i))
	}
	for _, p := range all.PRF {
		expect("IKE", ike, theirPRF(p))
	}
	for _, k := range all.KE {
		expect("IKE", ike, theirKE(k))
	}
}

var update = flag.Bool("update", false, "write the table of docs/interop.md anew")

// TestDocument compares the table of docs/interop.md with what TestAlgorithms uses.
func TestDocument(t *testing.T) {
	const document = "../../docs/interop.md"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	all := suite.Implemented()
	var b strings.Builder
	row := func(what string, words []string) {
		words = slices.DeleteFunc(words, func(w string) bool { return slices.Contains(lacking, w) })
		fmt.Fprintf(&b, "| %s | %s |\n", what, strings.Join(words, ", "))
	}
	b.WriteString("| transform | used |\n| --- | --- |\n")
	row("encryption, IKE and ESP", words(all.Encr))
	row("integrity, IKE and ESP", words(all.Integ))
	row("PRF", words(all.PRF))
	row("key exchange", words(all.KE))
	table := regexp.MustCompile(`(?s)(<!-- generated: algorithms -->\n).*(<!-- end -->\n)`)
	if !table.Match(text) {
		t.Fatalf("%s has no place for the table", document)
	}
	want := table.ReplaceAllString(string(text), "${1}"+b.String()+"${2}")
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says; `go test ./testing/peer -run TestDocument -update` writes it anew", document)
	}
	if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func words[T fmt.Stringer](list []T) (out []string) {
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}
