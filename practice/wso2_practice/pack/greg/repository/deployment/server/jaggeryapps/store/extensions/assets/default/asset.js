// Practice server: the real product keeps the behaviour of its asset types here.
asset.server = function (ctx) { return {}; };
