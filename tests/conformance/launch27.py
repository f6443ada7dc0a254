"""Runs the fuzzing client of the Autobahn test-suite; for Python 2.7.

    python2.7 launch27.py LIBRARY SPEC.json     run the spec
    python2.7 launch27.py LIBRARY --list        the names of all cases

Nothing in the suite's packages is edited; what has to differ is said here.
"""

import json
import random
import site
import sys


def main(library, spec_file):
    sys.path.insert(0, library)
    site.addsitedir(library)  # zope's name space comes by a .pth file

    from autobahntestsuite import choosereactor  # noqa: F401, I001  first: it picks the reactor
    from autobahn.websocket import compress_deflate
    from autobahntestsuite import fuzzing
    from OpenSSL import SSL
    from twisted.internet import reactor, ssl

    if spec_file == "--list":
        cases = fuzzing.CaseSet(
            fuzzing.CaseSetname,
            fuzzing.CaseBasename,
            fuzzing.Cases,
            fuzzing.CaseCategories,
            fuzzing.CaseSubCategories,
        )
        print(" ".join(cases.parseSpecCases({"cases": ["*"]})))
        return 0

    with open(spec_file) as source:
        spec = json.load(source)

    factory = ssl.ClientContextFactory

    class Modern(factory):
        """Any version up to TLS 1.3, the server's certificate unchecked."""

        method = SSL.SSLv23_METHOD

        def getContext(self):
            context = factory.getContext(self)
            context.set_options(SSL.OP_NO_TLSv1 | SSL.OP_NO_TLSv1_1)
            return context

    ssl.ClientContextFactory = Modern

    # The verdicts do not depend on how hard zlib tries; the minutes that they take do.
    compress_deflate.zlib.Z_DEFAULT_COMPRESSION = compress_deflate.zlib.Z_BEST_SPEED

    failures = []

    class Client(fuzzing.FuzzingClientFactory):
        def buildProtocol(self, address):
            # Masks and payloads of a case are then the same in every run.
            random.seed(self.currentCaseId)
            return fuzzing.FuzzingClientFactory.buildProtocol(self, address)

        def clientConnectionFailed(self, connector, reason):
            failures.append(reason.getErrorMessage())
            reactor.stop()

        def createReports(self, produceHtml=True, produceJson=True):
            html = bool(spec.get("html"))
            fuzzing.FuzzingClientFactory.createReports(self, produceHtml=html)

    client = Client(spec)
    reactor.run()
    for failure in failures:
        sys.stderr.write("could not connect: %s\n" % failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
