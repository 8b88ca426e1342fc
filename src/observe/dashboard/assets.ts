// The files of the page, part of the program: no file is read and nothing is fetched from elsewhere.

import uplotScript from 'uplot/dist/uPlot.esm.js' with { type: 'text' };
import uplotStyle from 'uplot/dist/uPlot.min.css' with { type: 'text' };
import type { Routes } from '../http-server.ts';
import app from './page/app.js' with { type: 'text' };
import chartsScript from './page/charts.js' with { type: 'text' };
import dom from './page/dom.js' with { type: 'text' };
import eventsPanel from './page/events-panel.js' with { type: 'text' };
import format from './page/format.js' with { type: 'text' };
import healthPanel from './page/health-panel.js' with { type: 'text' };
import html from './page/index.html' with { type: 'text' };
import sqlPanel from './page/sql-panel.js' with { type: 'text' };
import stagesPanel from './page/stages-panel.js' with { type: 'text' };
import style from './page/style.css' with { type: 'text' };
import tapPanel from './page/tap-panel.js' with { type: 'text' };
import topicsPanel from './page/topics-panel.js' with { type: 'text' };

const SCRIPT = 'text/javascript; charset=utf-8';
const STYLE = 'text/css; charset=utf-8';

const files: Readonly<Record<string, readonly [type: string, text: unknown]>> = {
  '/': ['text/html; charset=utf-8', html],
  '/page/style.css': [STYLE, style],
  '/page/uplot.css': [STYLE, uplotStyle],
  '/page/uplot.js': [SCRIPT, uplotScript],
  '/page/app.js': [SCRIPT, app],
  '/page/charts.js': [SCRIPT, chartsScript],
  '/page/dom.js': [SCRIPT, dom],
  '/page/events-panel.js': [SCRIPT, eventsPanel],
  '/page/format.js': [SCRIPT, format],
  '/page/health-panel.js': [SCRIPT, healthPanel],
  '/page/sql-panel.js': [SCRIPT, sqlPanel],
  '/page/stages-panel.js': [SCRIPT, stagesPanel],
  '/page/tap-panel.js': [SCRIPT, tapPanel],
  '/page/topics-panel.js': [SCRIPT, topicsPanel],
};

/** A route for each file of the page. */
export function pageRoutes(): Routes {
  return Object.fromEntries(
    Object.entries(files).map(([path, [type, text]]) => [
      `GET ${path}`,
      () => new Response(String(text), { headers: { 'content-type': type } }),
    ]),
  );
}
